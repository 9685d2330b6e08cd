"""The audit writer: one connection, used in turns by the event loop and by a thread; rows that come together share a commit.

Handing a row to a thread and back costs more than to commit it. So rows are written on the loop itself where nothing has to be
waited for: no lock that others hold, no fsync, no disk that was slow a moment ago. All else is the thread's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread

from outloop.core.errors import AuditError
from outloop.core.ledger import EventRow, Row, UlidFactory, timestamp
from outloop.store.appender import Appender, RowRefused, waits_for_disk
from outloop.store.heads import Head

BATCH_ROWS = 500
QUEUE_ROWS = 10_000
LINGER_S = 0.01
RETRY_S = 1.0
# A commit on the loop that took this long was a slow disk's: for a while the thread takes all of them.
SLOW_S = 0.02
SLOW_FOR_S = 0.25

# How the thread is called.
_SOON, _NOW = 1, 2


@dataclass(slots=True)
class _Waiting:
    """A row on its way to the disk, and who waits for it: a coroutine of `loop`, a thread, or nobody."""

    row: Row
    loop: asyncio.AbstractEventLoop | None = None
    arrival: asyncio.Future[None] | None = None
    result: Future[None] | None = None

    @property
    def is_awaited(self) -> bool:
        return self.arrival is not None or self.result is not None


_Answer = tuple[list[_Waiting], AuditError | None]


class AuditWriter:
    """Appends to the record at *path*; `clock` returns seconds since 1970, as time.time does; `randomness(n)` n random bytes.

    Starts with the first row, or with `start`, which raises where the record cannot be had. `ids` makes row ids that rise; once
    it is closed, `head` is the end of its chain.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float],
        randomness: Callable[[int], bytes] = os.urandom,
        *,
        busy_timeout_s: float = 5.0,
    ) -> None:
        self.ids = UlidFactory(lambda: int(clock() * 1000), randomness)
        self.writer = self.ids.next()
        self.lost = 0
        self.problem: AuditError | None = None
        self.head = Head()
        self._path = path
        self._clock = clock
        self._busy_timeout_s = busy_timeout_s
        self._rows: deque[_Waiting] = deque()
        self._in_hand: list[_Waiting] = []
        self._unsaved: list[_Waiting] = []
        self._lock = Lock()
        self._turn = Lock()  # whoever holds it uses the appender
        self._appender: Appender | None = None
        self._thread: Thread | None = None
        self._bell: SimpleQueue[int] = SimpleQueue()
        self._called = 0
        self._turning: asyncio.AbstractEventLoop | None = None
        self._slow_until_s = 0.0
        self._is_stopping = False
        self._is_over = False
        self._is_log_reported = False

    @property
    def healthy(self) -> bool:
        """Tell whether the last rows reached the disk; `problem` says why not, `lost` counts rows that never will."""
        return self.problem is None and not self._is_over

    def start(self) -> None:
        """Open the record and start the thread. A second call does nothing.

        Raises UsageError when the record was written by a newer Outloop, AuditError when it cannot be opened or written.
        """
        with self._lock:
            if self._thread is None:
                self._appender = Appender(self._path, self.writer, self._busy_timeout_s)
                self._thread = Thread(target=self._run, args=(self._appender,), name="outloop-audit", daemon=True)
                self._thread.start()

    async def commit(self, row: Row) -> None:
        """Return when *row* is on disk. A caller that is cancelled meanwhile leaves a row that may or may not be there.

        Raises AuditError when it could not be written.
        """
        loop = asyncio.get_running_loop()
        arrival: asyncio.Future[None] = loop.create_future()
        self._put(_Waiting(row, loop=loop, arrival=arrival), limit=QUEUE_ROWS)
        if waits_for_disk(row):
            self._call(_NOW)
        elif self._turning is not loop:
            # Not at once: whoever commits in this turn of the loop shares the transaction.
            self._turning = loop
            try:
                await asyncio.sleep(0)
            finally:  # also when this one was cancelled: the others count on it
                self._write_here(loop)
        await arrival

    def append(self, row: Row) -> None:
        """Write *row* soon, without telling the caller. While the disk refuses, it is kept and tried again.

        Never raises: what cannot be kept is counted in `lost`, and `problem` says why.
        """
        try:
            # Twice the room that commits have: the outcome of a request that was let through still fits.
            self._put(_Waiting(row), limit=2 * QUEUE_ROWS)
            # It lingers a little: the next request's decision takes it along, for one commit instead of two.
            self._call(_SOON)
        except AuditError as error:
            self._lose(1, error)

    def append_now(self, row: Row) -> None:
        """Return when *row* is on disk; for commands, and never on an event loop.

        Raises AuditError when it could not be written, UsageError as `start` does.
        """
        result: Future[None] = Future()
        self._put(_Waiting(row, result=result), limit=QUEUE_ROWS)
        self._call(_NOW)
        result.result()

    def event(
        self,
        kind: str,
        *,
        workspace: str | None = None,
        agent: str | None = None,
        service: str | None = None,
        key: str | None = None,
        host: str | None = None,
        detail: str | None = None,
    ) -> EventRow:
        """Return an event row with a new id and the present time; not yet written."""
        at = timestamp(int(self._clock() * 1000))
        return EventRow(
            id=self.ids.next(),
            at=at,
            kind=kind,
            workspace=workspace,
            agent=agent,
            service=service,
            key=key,
            host=host,
            detail=detail,
        )

    def close(self) -> None:
        """Write what is waiting, and stop. Raises AuditError when rows had to be given up."""
        if self._thread is None:
            return
        self._is_stopping = True
        self._call(_NOW)
        self._thread.join()
        if self._unsaved:
            raise AuditError(
                f"{len(self._unsaved)} audit rows could not be written", self.problem.message if self.problem else None
            )

    def _put(self, waiting: _Waiting, limit: int) -> None:
        if self._thread is None:
            self.start()
        if len(self._rows) >= limit:
            raise AuditError(
                "the audit queue is full", "the disk is slower than the requests: none is let through until it has caught up"
            )
        self._rows.append(waiting)
        if self._is_over:  # the thread may have ended between the question and the answer: then nobody else refuses
            self._refuse(self._drained())

    def _call(self, how: int) -> None:
        """Have the thread write what waits. Called after rows were put, as the thread takes rows after it has listened."""
        if how > self._called:
            self._called = how
            self._bell.put(how)

    def _write_here(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write what waits, on the event loop, unless that could mean to wait: then the thread does it, and answers."""
        self._turning = None
        appender = self._appender
        if not self._rows or appender is None:
            return
        start_s = time.monotonic()
        if start_s < self._slow_until_s or not self._turn.acquire(blocking=False):
            self._call(_NOW)
            return
        try:
            batch = self._drained(BATCH_ROWS)
            rows = [waiting.row for waiting in batch]
            if self._is_over:
                self._refuse(batch)
                return
            if self._unsaved or appender.begins_log or any(map(waits_for_disk, rows)):
                self._hand_over(batch)
                return
            try:
                appender.append(rows, is_patient=False)
            except Exception:  # noqa: BLE001  (the thread tries again, with patience, or meets the same, and refuses)
                self._hand_over(batch)
                return
            self.problem = None
            if time.monotonic() - start_s > SLOW_S:
                self._slow_until_s = start_s + SLOW_FOR_S
        finally:
            self._turn.release()
        if self._rows or appender.is_checkpoint_due:
            self._call(_NOW)
        _answer(batch, None, here=loop)

    def _hand_over(self, batch: list[_Waiting]) -> None:
        self._rows.extendleft(reversed(batch))
        self._call(_NOW)

    def _run(self, appender: Appender) -> None:
        try:
            is_stopping = False
            while not is_stopping:
                self._listen()
                is_stopping = self._is_stopping  # asked before the rows are taken: what was put before it is still written
                self._write_all(appender)
        finally:
            # Also after an error nobody foresaw: whoever waits, or comes later, is refused instead of left waiting.
            with self._turn:
                self._is_over = True
                self._refuse([*self._in_hand, *self._drained()])
                self.head = appender.head
                appender.close()

    def _write_all(self, appender: Appender) -> None:
        is_first = True
        while self._rows or (is_first and self._unsaved):
            is_first = False
            with self._turn:
                self._in_hand = self._drained(BATCH_ROWS)
                answers = self._write(appender, self._in_hand)
                self._in_hand = []
            # Not before the turn is over: a request that is answered may bring the next row at once.
            for batch, error in answers:
                _answer(batch, error)
        with self._turn:
            held_bytes = appender.checkpoint()
        self._report_log(held_bytes)

    def _report_log(self, held_bytes: int) -> None:
        """Record, once in the life of a process, that a reader keeps the write-ahead log from being emptied."""
        if held_bytes and not self._is_log_reported:
            self._is_log_reported = True
            size = f"{held_bytes // 1_000_000} MB of the write-ahead log wait for a program that has read in audit.db for long"
            self.append(self.event("record_log_grows", detail=f"{size}: `fuser` names it"))

    def _listen(self) -> None:
        """Return when there is something to write: at once where somebody waits for it, else a little later."""
        with contextlib.suppress(Empty):
            if self._bell.get(timeout=RETRY_S if self._unsaved else None) == _SOON:
                self._bell.get(timeout=LINGER_S)
        self._called = 0

    def _write(self, appender: Appender, batch: list[_Waiting]) -> list[_Answer]:
        batch = [*self._unsaved, *batch]
        try:
            appender.append([waiting.row for waiting in batch])
        except RowRefused as error:
            self._unsaved = []
            if len(batch) > 1:  # one bad row is not to take the others with it
                return [answer for waiting in batch for answer in self._write(appender, [waiting])]
            self._lose(sum(not waiting.is_awaited for waiting in batch), error)
            return [(batch, error)]
        except AuditError as error:
            # Those who queued up meanwhile have waited as long: they are answered too, not made to wait once more.
            batch += self._drained()
            unsaved = [waiting for waiting in batch if not waiting.is_awaited]
            self._unsaved = unsaved[:QUEUE_ROWS]
            self._lose(len(unsaved) - len(self._unsaved), error)
            self.problem = error
            return [(batch, error)]
        self._unsaved = []
        self.problem = None
        return [(batch, None)]

    def _drained(self, limit: int = 2 * QUEUE_ROWS) -> list[_Waiting]:
        drained: list[_Waiting] = []
        while self._rows and len(drained) < limit:
            drained.append(self._rows.popleft())
        return drained

    def _refuse(self, rows: list[_Waiting]) -> None:
        error = AuditError("the audit writer has stopped", "restart the proxy")
        _answer(rows, error)
        self._lose(sum(not waiting.is_awaited for waiting in rows), error)

    def _lose(self, count: int, error: AuditError) -> None:
        if count:
            with self._lock:
                self.lost += count
            self.problem = error


def _answer(batch: Iterable[_Waiting], error: AuditError | None, here: asyncio.AbstractEventLoop | None = None) -> None:
    """Tell everyone in *batch*; *here* is the loop whose own thread this is."""
    arrivals: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for waiting in batch:
        if waiting.result is not None:
            _settle([waiting.result], error)
        elif waiting.loop is not None and waiting.arrival is not None:
            arrivals.setdefault(waiting.loop, []).append(waiting.arrival)
    for loop, futures in arrivals.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits there any more
            if loop is here:
                _settle(futures, error)
            else:
                loop.call_soon_threadsafe(_settle, futures, error)


def _settle(futures: Iterable[asyncio.Future[None] | Future[None]], error: AuditError | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(AuditError(error.message, error.hint))
