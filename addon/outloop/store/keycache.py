"""The values of keys in a running proxy's memory: read off the event loop, in one go per workspace, with a time limit.

A call into a keychain cannot be interrupted, so one daemon thread makes them all: when it is stuck, everybody is refused at
once instead of waiting behind it, and the process can still end.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol

from outloop.core.errors import KeychainError, KeyLocked, KeyMissing, OutloopError
from outloop.core.secret import Secret
from outloop.store.backends import Refusing
from outloop.store.state import KeyRecord

READ_LIMIT_S = 5.0
# After a refusal the keychain is left alone this long: many of them ask their owner each time they are asked.
PAUSE_S = 5.0

KeyId = tuple[str, str]
Stamp = tuple[int, str, int, int]


class KeyReader(Protocol):
    """What of a `Keychain` the cache uses."""

    def get(self, workspace: str, key: str) -> Mapping[str, Secret]:
        """Return a key's parts."""
        ...

    def previous(self, workspace: str, key: str) -> Mapping[str, Secret] | None:
        """Return its parts from before the last rotation."""
        ...

    def renew(self, workspace: str, key: str, before: Mapping[str, Secret], parts: Mapping[str, Secret]) -> None:
        """Store *parts* in the place of *before*."""
        ...


@dataclass(frozen=True, slots=True)
class LoadedKey:
    """A key in memory: its parts by name and, within the grace of a rotation, the parts before it."""

    parts: Mapping[str, Secret]
    previous: Mapping[str, Secret] | None = None


@dataclass(frozen=True, slots=True)
class _Refused:
    """Why a key could not be had. Kept as text: an exception that is raised again and again would gather tracebacks."""

    kind: type[KeychainError]
    message: str
    hint: str | None
    until: float

    def error(self) -> KeychainError:
        return self.kind(self.message, self.hint)


Answer = LoadedKey | _Refused


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    wanted: Mapping[KeyId, Stamp]
    records: tuple[KeyRecord, ...]
    done: Future[Mapping[KeyId, Answer]]


class KeyCache:
    """Loads keys for a proxy. One per process; `load` and `forget` belong to event loops, the reading to one daemon thread.

    *open_keychain* is called on that thread, again and again until it succeeds. *clock* is monotonic, in seconds.
    """

    def __init__(
        self,
        open_keychain: Callable[[], KeyReader],
        *,
        read_limit_s: float = READ_LIMIT_S,
        pause_s: float = PAUSE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_keychain = open_keychain
        self._read_limit_s = read_limit_s
        self._pause_s = pause_s
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: dict[KeyId, tuple[Stamp, Answer]] = {}
        self._forgotten: dict[KeyId, int] = {}
        self._reads: list[_Read] = []
        self._stuck: Future[Any] | None = None
        self._queue: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._keychain: KeyReader | None = None

    async def load(self, records: Sequence[KeyRecord]) -> Mapping[KeyId, LoadedKey | KeychainError]:
        """Return, for each of *records*, its value or why it cannot be had (KeyMissing, KeyLocked). Never raises either.

        *records* are all the keys of a workspace that may be used: what else is in memory of that workspace is dropped. A
        value stays until its generation changes or `forget`; KeyMissing until its generation changes; KeyLocked for PAUSE_S.
        """
        wanted = {_id(record): self._stamp(record) for record in records}
        with self._lock:
            self._drop_others(wanted)
            stale = tuple(record for record in records if self._answer(_id(record), wanted[_id(record)]) is None)
            read = self._read_of(stale, wanted) if stale else None
        # What was forgotten while it was read serves those who already waited for it, and nobody after them.
        fresh = await self._finished(read) if read is not None else {}
        with self._lock:
            answers = {key: self._answer(key, stamp) or fresh.get(key) for key, stamp in wanted.items()}
        return {key: _told(answer) for key, answer in answers.items()}

    def read(self, records: Sequence[KeyRecord]) -> Mapping[KeyId, LoadedKey | KeychainError]:
        """Return what `load` does, read anew and kept by the caller alone. Blocks, and is for no event loop."""
        with self._lock:
            read = None if self._is_stuck() else self._queued({}, tuple(records))
        answers: Mapping[KeyId, Answer] = {}
        if read is not None:
            try:
                answers = read.done.result(self._read_limit_s)
            except TimeoutError:
                self._give_up(read.done)
        return {_id(record): _told(answers.get(_id(record))) for record in records}

    def forget(self, workspace: str, name: str) -> None:
        """Drop a value that the upstream refused: the next load reads it anew, and no read under way brings it back."""
        with self._lock:
            self._forgotten[workspace, name] = self._forgotten.get((workspace, name), 0) + 1
            self._answers.pop((workspace, name), None)

    async def renew(self, record: KeyRecord, before: Mapping[str, Secret], parts: Mapping[str, Secret]) -> None:
        """Store *parts* in the keychain in the place of *before*; the next load reads them.

        Raises KeyMissing or KeyLocked; the latter also when it took too long, and then it may yet happen.
        """
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()

        def work() -> None:
            try:
                with Refusing("the keychain"):
                    self._opened().renew(record.workspace, record.name, before, parts)
                done.set_result(None)
            except KeychainError as error:
                done.set_exception(error)
            except OutloopError as error:
                done.set_exception(KeyLocked(error.message, error.hint))

        with self._lock:
            if self._is_stuck():
                raise _out_of_time()
            self._hand_over(work)
        try:
            async with asyncio.timeout(self._read_limit_s):
                await asyncio.wrap_future(done)
        except TimeoutError:
            self._give_up(done)
            raise _out_of_time() from None
        self.forget(record.workspace, record.name)

    def _stamp(self, record: KeyRecord) -> Stamp:
        # `added_at` as well: generations start anew when state.db was deleted.
        return record.generation, record.added_at, record.renewals, self._forgotten.get(_id(record), 0)

    def _answer(self, key: KeyId, stamp: Stamp) -> Answer | None:
        kept, answer = self._answers.get(key, (None, None))
        if kept != stamp or (isinstance(answer, _Refused) and answer.until <= self._clock()):
            return None
        return answer

    def _drop_others(self, wanted: Mapping[KeyId, Stamp]) -> None:
        workspaces = {workspace for workspace, _ in wanted}
        for key in [key for key in self._answers if key[0] in workspaces and key not in wanted]:
            del self._answers[key]

    def _read_of(self, stale: tuple[KeyRecord, ...], wanted: Mapping[KeyId, Stamp]) -> _Read | None:
        """Return the read to wait for: one under way that covers *stale*, or a new one; None while the thread is stuck."""
        if self._is_stuck():
            return None
        missing = {_id(record): wanted[_id(record)] for record in stale}
        for read in self._reads:
            if missing.items() <= read.wanted.items():
                return read
        return self._queued(missing, stale)

    def _queued(self, wanted: Mapping[KeyId, Stamp], records: tuple[KeyRecord, ...]) -> _Read:
        """Return a new read of *records*, whose answers are kept for what is *wanted* of them."""
        done: Future[Mapping[KeyId, Answer]] = Future()
        done.set_running_or_notify_cancel()  # from here on no waiting request that is cancelled can cancel it for the others
        read = _Read(wanted, records, done)
        self._reads.append(read)
        self._hand_over(lambda: self._read(read))
        return read

    def _is_stuck(self) -> bool:
        if self._stuck is not None and self._stuck.done():
            self._stuck = None
        return self._stuck is not None

    def _hand_over(self, work: Callable[[], None]) -> None:
        """Have the keychain's thread do *work*, which raises nothing."""
        self._queue.put(work)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="outloop-keychain", daemon=True)
            self._thread.start()

    async def _finished(self, read: _Read) -> Mapping[KeyId, Answer]:
        try:
            async with asyncio.timeout(self._read_limit_s):
                return await asyncio.wrap_future(read.done)
        except TimeoutError:
            self._give_up(read.done)
            return {}

    def _give_up(self, done: Future[Any]) -> None:
        with self._lock:
            self._stuck = done

    def _work(self) -> None:
        while True:
            self._queue.get()()

    def _read(self, read: _Read) -> None:
        answers = self._read_all(read.records)
        with self._lock:
            self._reads.remove(read)
            # Under the stamps of when it was asked for: what was forgotten meanwhile is stale as it arrives.
            self._answers.update({key: (stamp, answers[key]) for key, stamp in read.wanted.items()})
        read.done.set_result(answers)

    def _read_all(self, records: Iterable[KeyRecord]) -> dict[KeyId, Answer]:
        answers: dict[KeyId, Answer] = {}
        locked: _Refused | None = None
        for record in records:
            answer = locked or self._read_one(record)
            if isinstance(answer, _Refused) and answer.kind is KeyLocked:
                locked = answer  # and no further question to a keychain that has just said no
            answers[_id(record)] = answer
        return answers

    def _read_one(self, record: KeyRecord) -> Answer:
        try:
            with Refusing("the keychain"):
                keychain = self._opened()
                parts = keychain.get(record.workspace, record.name)
                grace = record.previous_until is not None
                return LoadedKey(parts, keychain.previous(record.workspace, record.name) if grace else None)
        except KeyMissing as error:
            return _Refused(KeyMissing, error.message, error.hint, float("inf"))
        except OutloopError as error:
            return _Refused(KeyLocked, error.message, error.hint, self._clock() + self._pause_s)

    def _opened(self) -> KeyReader:
        if self._keychain is None:
            self._keychain = self._open_keychain()
        return self._keychain


def _id(record: KeyRecord) -> KeyId:
    return record.workspace, record.name


def _told(answer: Answer | None) -> LoadedKey | KeychainError:
    if answer is None:
        return _out_of_time()
    return answer.error() if isinstance(answer, _Refused) else answer


def _out_of_time() -> KeyLocked:
    return KeyLocked("the keychain did not answer in time", "unlock it, or look for a window in which it asks something")
