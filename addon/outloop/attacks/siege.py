"""Every case, over several houses side by side: one waits while another works."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from outloop.attacks.attacked import House, attacked_house
from outloop.attacks.case import Case
from outloop.attacks.runner import Runner
from outloop.core.errors import UsageError

_BLOCK_CASES = 12
_PATIENCE_S = 10.0
# Where nothing is answered, a thousand cases wait: each for less, and all failures of one house for so long.
_LEAST_PATIENCE_S = 2.0
_MOST_WASTED_S = 20.0
_NO_PATIENCE_S = 0.1
MOST_FAILURES = 100
_HOUSE_DESCRIPTORS = 120  # sockets and event loops of a house's upstreams, and connections

Attack = tuple[str, Case]  # the table, and a row of it


@dataclass(frozen=True, slots=True)
class Result:
    """How an attack went: `wrong` says what was not as it should be, () where the case holds."""

    table: str
    case: Case
    wrong: tuple[str, ...]


def besiege(attacks: Sequence[Attack], environ: Mapping[str, str], report: Callable[[Result], None]) -> None:
    """Run *attacks* against this installation, as it starts under *environ*; call *report* with each result, on this thread.

    Stops after `MOST_FAILURES`, or fewer that take long. What was started has ended and every file is gone when this returns
    or raises, as it does for KeyboardInterrupt. Raises NoError when the proxy does not start.
    """
    siege = _Siege(blocks_of(attacks))
    # asyncio warns of writes to who has left, which attackers do; without a handler that goes to standard error.
    logging.getLogger("asyncio").addHandler(logging.NullHandler())
    count = _how_many()
    with (
        tempfile.TemporaryDirectory(prefix="outloop-attack-", ignore_cleanup_errors=True) as folder,
        ThreadPoolExecutor(count, "outloop-attack") as pool,
        contextlib.ExitStack() as stack,
    ):
        houses = [stack.enter_context(attacked_house(_made(folder, number), environ)) for number in range(count)]
        for house in houses:
            stack.callback(house.proxy.process.terminate)  # all of them, before one is waited for
        stack.callback(siege.stop)
        for house in houses:
            pool.submit(siege.attack, house)
        failures = 0
        for result in siege.results(count):
            report(result)
            failures += bool(result.wrong)
            if failures == MOST_FAILURES:
                siege.stop()


def _how_many() -> int:
    """Return how many houses this machine bears side by side. Raises UsageError where it cannot be one."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)  # 256 on macOS
    if descriptors == resource.RLIM_INFINITY:
        descriptors = 4 * _HOUSE_DESCRIPTORS
    if descriptors < _HOUSE_DESCRIPTORS:
        raise UsageError(f"the {descriptors} files that this shell lets a program open are too few", "ulimit -n 1024")
    return min(4, max(2, os.cpu_count() or 1), descriptors // _HOUSE_DESCRIPTORS)


def _made(folder: str, number: int) -> Path:
    path = Path(folder, str(number))
    path.mkdir(mode=0o700)
    return path


def blocks_of(attacks: Sequence[Attack]) -> list[list[Attack]]:
    """Return the attacks in blocks, in order; a case that needs another stands behind it, and in the same block."""
    blocks: list[list[Attack]] = []
    for table, case in attacks:
        if not blocks or (len(blocks[-1]) >= _BLOCK_CASES and not case.follows):
            blocks.append([])
        blocks[-1].append((table, case))
    return blocks


class _Siege:
    """What the threads share: blocks to take, and results."""

    def __init__(self, blocks: list[list[Attack]]) -> None:
        self._blocks = blocks[::-1]
        self._results: SimpleQueue[Result | BaseException | None] = SimpleQueue()
        self._is_over = threading.Event()
        self._runners: list[Runner] = []

    def stop(self) -> None:
        """Let no case begin, and none wait."""
        self._is_over.set()
        for runner in self._runners:
            runner.patience_s = _NO_PATIENCE_S

    def results(self, count: int) -> Iterator[Result]:
        """Yield the results of *count* attackers until all of them have ended. Raises what the first of them raised."""
        while count:
            result = self._results.get()
            if isinstance(result, BaseException):
                raise result
            if result is None:
                count -= 1
            else:
                yield result

    def attack(self, house: House) -> None:
        """Run blocks against *house* until none is left."""
        try:
            with house.runner() as runner:
                runner.patience_s = _PATIENCE_S
                self._runners.append(runner)
                wasted_s = 0.0
                while not self._is_over.is_set() and (block := self._next()):
                    for failing_s in self._failing(block, runner):
                        wasted_s += failing_s
                        if wasted_s > _MOST_WASTED_S:
                            self.stop()
            self._results.put(None)
        except BaseException as error:  # noqa: BLE001  (handed to the thread that waits)
            self._results.put(error)

    def _next(self) -> list[Attack]:
        try:
            return self._blocks.pop()
        except IndexError:
            return []

    def _failing(self, block: list[Attack], runner: Runner) -> Iterator[float]:
        """Run *block*; yield how many seconds each case took that failed."""
        for number, (table, case) in enumerate(block, start=1):
            begin_s = time.monotonic()
            wrong = runner.run(case)
            if number == len(block):
                wrong += [f"afterwards: {left}" for left in runner.leftovers()]
            if self._is_over.is_set():
                return
            self._results.put(Result(table, case, tuple(wrong)))
            if wrong:
                runner.patience_s = max(_LEAST_PATIENCE_S, runner.patience_s / 3)
                yield time.monotonic() - begin_s
