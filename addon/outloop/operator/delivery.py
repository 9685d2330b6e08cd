"""From the record to a collector, at least once: a place is noted only after the collector has taken what is before it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from outloop import __version__
from outloop.core.errors import NoError
from outloop.core.ledger import inert
from outloop.core.otlp import LogRecord, event_record, export_request, rejected, request_record
from outloop.operator.collector import Collector, Reply
from outloop.store.outbox import Batch, Deliveries, Outbox

BATCH_ROWS = 500
BATCH_BYTES = 1_000_000
LOOK_S = 0.5
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 60.0
ATTEMPTS = 8  # some two minutes; --follow goes on for as long as it takes
TOO_LARGE = 413


@dataclass
class Delivery:
    """What goes from `outbox` to `collector`. `tell` gets lines for people; `pause` sleeps.

    `sent` and `rejected` count rows: those the collector took, and of these the ones that it said it dropped.
    """

    outbox: Outbox
    collector: Collector
    deliveries: Deliveries
    target: str
    tell: Callable[[str], None]
    pause: Callable[[float], None] = time.sleep
    sent: int = 0
    rejected: int = 0
    _limit: int = BATCH_ROWS

    def run(self, *, follow: bool) -> None:
        """Send what is there, and with *follow* what comes, without end.

        Raises NoError when the collector refuses, or cannot be had for long; UsageError or AuditError when the record cannot be
        read. What was not taken stays for the next time.
        """
        got = self.deliveries.got(self.target)
        while True:
            batch = self.outbox.next(got, self._limit)
            if batch.rows and not self._send(batch, patient=follow):
                continue  # in smaller portions
            if batch.places:
                self.deliveries.advance(self.target, batch.places)
                got |= batch.places
            elif follow or batch.is_waiting:
                self.pause(LOOK_S)
            else:
                return

    def _send(self, batch: Batch, *, patient: bool) -> bool:
        """Send *batch*; False when it is too much at once."""
        body = export_request(_records(batch), __version__)
        if len(body) > BATCH_BYTES and batch.rows > 1:
            self._limit = max(1, batch.rows // 2)
            return False
        reply = self._taken(body, patient=patient)
        if reply.status == TOO_LARGE and batch.rows > 1:
            self._limit = max(1, batch.rows // 2)
            return False
        if not reply.is_taken:
            raise NoError(f"the collector refused: HTTP {reply.status}{_said(reply)}", _HINTS.get(reply.status, _STAYS))
        self._limit = min(2 * self._limit, BATCH_ROWS)
        dropped, why = rejected(reply.body)
        if dropped:
            self.tell(f"the collector dropped {dropped} of {batch.rows} rows: {inert(why) or 'it does not say why'}")
        self.sent += batch.rows
        self.rejected += dropped
        return True

    def _taken(self, body: bytes, *, patient: bool) -> Reply:
        """Return the collector's answer, once it is not that it be tried again later."""
        backoff_s = FIRST_BACKOFF_S
        attempt = 1
        while (reply := self.collector.post(body)).may_be_tried_again:
            what = (
                f"HTTP {reply.status}{_said(reply)}"
                if reply.status
                else f"cannot be reached: {inert(reply.body.decode(errors='replace'))}"
            )
            if attempt == ATTEMPTS and not patient:
                raise NoError(f"the collector does not take rows: {what}", _STAYS)
            wait_s = reply.wait_s if reply.wait_s is not None else backoff_s * random.uniform(0.5, 1)  # noqa: S311  (no secret)
            if attempt == 1:
                self.tell(f"the collector does not take rows now ({what}); trying again")
            self.pause(wait_s)
            attempt, backoff_s = attempt + 1, min(backoff_s * 2, LONGEST_BACKOFF_S)
        return reply


_STAYS = "nothing is lost: what it did not take is sent the next time"
_HINTS = {
    401: "--header Authorization=env:VARIABLE names what it wants to see",
    403: "--header Authorization=env:VARIABLE names what it wants to see",
    404: "a collector takes logs at /v1/logs: write the whole path if it is another",
    415: "it must take OTLP as JSON (application/json)",
}


def _records(batch: Batch) -> list[LogRecord]:
    now_ms = time.time_ns() // 1_000_000
    return [request_record(row, now_ms) for row in batch.requests] + [event_record(row, now_ms) for row in batch.events]


def _said(reply: Reply) -> str:
    text = inert(reply.body[:200].decode(errors="replace")).strip()
    return f": {text}" if text else ""
