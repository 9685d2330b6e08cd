"""Runs the checks, beside each other and each for a bounded time, and gives their findings in the order of the table."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue

from outloop.core.errors import OutloopError
from outloop.operator.doctor import (
    authority,
    bypass,
    clients,
    clock,
    decoys,
    distrusts,
    hosts,
    keys,
    limits,
    policy,
    provider,
    proxy,
    reach,
    record,
    shell,
)
from outloop.operator.doctor.finding import Finding, Result, failure
from outloop.operator.doctor.premises import Premises

Check = tuple[str, Callable[[Premises], Iterable[Finding]]]

CHECKS: tuple[Check, ...] = (
    ("proxy", proxy.check),
    ("authority", authority.check),
    ("clock", clock.check),
    ("policy", policy.check),
    ("hosts", hosts.check),
    ("keys", keys.check),
    ("decoys", decoys.check),
    ("provider", provider.check),
    ("limits", limits.check),
    ("shell", shell.check),
    ("bypass", bypass.check),
    *clients.CHECKS,
    ("distrust", distrusts.check),
    ("reach", reach.check),
    ("record", record.check),
)
# Most of a check is waiting for another program; more at a time would only slow each other's start.
_AT_A_TIME = 4
# Every probe is bounded by itself: this is for the one that is not.
_ALL_LIMIT_S = 60.0


def examine(premises: Premises, checks: Sequence[Check] = CHECKS) -> tuple[Finding, ...]:
    """Run *checks* and return all findings. A check that raises an OutloopError has failed, in its words.

    Threads are daemons: a keychain that waits for its owner cannot be interrupted, and must not hold up the exit.
    """
    results: list[Future[tuple[Finding, ...]]] = [Future() for _ in checks]
    waiting: SimpleQueue[int] = SimpleQueue()
    for index in range(len(checks)):
        waiting.put(index)

    def work() -> None:
        while True:
            try:
                index = waiting.get_nowait()
            except Empty:
                return
            try:
                results[index].set_result(_run(checks[index], premises))
            except BaseException as error:  # noqa: BLE001  (handed to the thread that waits)
                results[index].set_exception(error)

    for number in range(_AT_A_TIME):
        threading.Thread(target=work, name=f"outloop-doctor-{number}", daemon=True).start()
    deadline = time.monotonic() + _ALL_LIMIT_S
    found = [_result(name, future, deadline) for (name, _), future in zip(checks, results, strict=True)]
    return tuple(finding for findings in found for finding in findings)


def stops_the_proof(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings that would stop a proof."""
    return tuple(finding for finding in findings if finding.result is Result.FAILURE)


def _run(check: Check, premises: Premises) -> tuple[Finding, ...]:
    name, look = check
    try:
        return tuple(look(premises))
    except OutloopError as error:
        return (failure(name, error.message, error.hint or ""),)


def _result(name: str, future: Future[tuple[Finding, ...]], deadline: float) -> tuple[Finding, ...]:
    try:
        return future.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        if future.done():  # the check itself raised it
            raise
        return (failure(name, f"this check did not end within {_ALL_LIMIT_S:.0f} s", "run it again on a quieter machine"),)
