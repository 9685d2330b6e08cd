"""Holds a running proxy against a case, and says what is wrong.

What was received, sent and recorded is compared whole: a request or a row too many is wrong too, also one that comes late,
which the case after it reports.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from hpack.exceptions import HPACKError
from hyperframe.exceptions import HyperframeError

from outloop.attacks.agent import PATIENCE_S, listen
from outloop.attacks.case import AGENTS_OWN, CLOSED, DECOY, FOREIGN, TOKEN, Case, Heard, Sent, plain
from outloop.store.arrivals import Arrivals
from outloop.store.records import Record

POLL_S = 0.005
# Refused, with a row of its own: what a case made the proxy do before has its rows by then, also where it expects none.
_LAST = plain(b"GET /last HTTP/1.1\r\n\r\n")


class Upstream(Protocol):
    """Every server that the proxy can reach, seen as one."""

    def answer_with(self, reply: object) -> None:
        """Answer every request from now on with *reply*; None is the answer that no case changed."""
        ...

    def arrived(self) -> Sequence[Sent]:
        """Return every request that is over, whole or cut off, in order, since the start."""
        ...

    def dialled(self) -> int:
        """Return how many connections were made since the start, TLS or not."""
        ...


class Runner:
    """Runs cases one after the other against the proxy at *address*, whose agents trust *certificate*.

    `patience_s` is how long it waits for what should come; it may be changed at any time, from any thread.
    """

    def __init__(self, address: tuple[str, int], certificate: Path, upstream: Upstream, record: Arrivals) -> None:
        self.patience_s = PATIENCE_S
        self._address = address
        self._certificate = certificate
        self._upstream = upstream
        self._record = record
        self._seen_requests = len(upstream.arrived())
        record.settle(record.rows())

    def run(self, case: Case) -> list[str]:
        """Run *case* and return what is wrong, [] where it holds."""
        return self._tried(lambda: self._run(case))

    def leftovers(self) -> list[str]:
        """Return what came after the last case: requests and rows that no case expects."""
        return self._tried(lambda: [*map(repr, self._new_requests(0)), *map(_said, self._new_rows(0))])

    def _tried(self, attempt: Callable[[], list[str]]) -> list[str]:
        try:
            return attempt()
        except TimeoutError:
            self._new_requests(0)
            self._record.settle(self._record.rows())
            self._record.alarms()
            return [f"the proxy neither answered nor closed within {self.patience_s:.0f} s"]
        except ConnectionError:
            return ["the proxy does not listen any more"]
        except (HPACKError, HyperframeError, ValueError) as error:
            return [f"what came cannot be read: {type(error).__name__}: {error}"]

    def _run(self, case: Case) -> list[str]:
        self._upstream.answer_with(case.reply)
        dialled = self._upstream.dialled()
        answers = listen(case.talk, self._address, self._certificate, self.patience_s)
        status = answers[-1].status
        if case.or_refused and status != case.status and status in (400, CLOSED):
            case = case.refused(status)
        rows = self._new_rows(len(case.expected_rows))
        sent = self._new_requests(len(case.upstream))
        is_dialled = self._upstream.dialled() != dialled
        return [
            *_wrong_with_answers(case, answers, rows),
            *_wrong_with_upstream(case, sent, is_dialled=is_dialled),
            *_wrong_with_rows(case, rows, answers[-1].header("outloop-audit-id")),
            *_wrong_with_alarms(case, self._record.alarms()),
        ]

    def _new_requests(self, count: int) -> list[Sent]:
        """Return the requests since the last case, once there are *count*: an upload may still be on its way."""
        begin_s = time.monotonic()
        while len(found := list(self._upstream.arrived())[self._seen_requests :]) < count and self._is_patient(begin_s):
            time.sleep(POLL_S)
        self._seen_requests += len(found)
        return found

    def _new_rows(self, count: int) -> list[Record]:
        """Return the rows since the last case, once *count* of them and that of a request after them are finished."""
        [last] = listen(_LAST, self._address, self._certificate, self.patience_s)
        begin_s = time.monotonic()
        while True:
            rows = self._record.rows()
            found = [row for row in rows if row["id"] != last.header("outloop-audit-id")]
            finished = [row["duration_ms"] is not None for row in found]
            is_over = len(found) < len(rows) and len(found) >= count and all(finished)
            if is_over or not self._is_patient(begin_s):
                self._record.settle(rows)
                return found
            time.sleep(POLL_S)

    def _is_patient(self, since_s: float) -> bool:
        return time.monotonic() - since_s < self.patience_s


def _wrong_with_answers(case: Case, answers: list[Heard], rows: list[Record]) -> list[str]:
    wrong = []
    last = answers[-1]
    if len(answers) != len(case.talk.steps):
        wrong.append(f"only {len(answers)} of {len(case.talk.steps)} steps were answered: {[heard.status for heard in answers]}")
    if last.status != case.status:
        got, expected = (status or "no answer" for status in (last.status, case.status))
        wrong.append(f"the agent got {got}, not {expected}: {last.body[:300]!r}")
    if any(TOKEN.encode() in heard.everything for heard in answers):
        wrong.append(f"the agent got the credential: {last.everything[:2000]!r}")
    if case.body is not None and last.body != case.body:
        wrong.append(f"the agent got the body {last.body[:300]!r}, not {case.body[:300]!r}")
    if case.reason not in ("", "OK") and case.status >= 400 and last.header("outloop-reason") is not None:
        wrong += _wrong_with_document(case, last, rows)
    if case.check is not None and (found := case.check(last)):
        wrong.append(found)
    return wrong


def _wrong_with_document(case: Case, heard: Heard, rows: list[Record]) -> list[str]:
    if heard.header("outloop-reason") != case.reason:
        return [f"the agent was told {heard.header('outloop-reason')}, not {case.reason}: {heard.body[:300]!r}"]
    if not heard.body:
        return []
    try:
        document = json.loads(heard.body)
        said, step, named = (document["reason"], document["decision"]), document["next_step"], document["audit_id"]
    except (ValueError, LookupError, TypeError):
        return [f"the document is {heard.body[:300]!r}"]
    if said != (case.reason, "deny") or not step:
        return [f"the document is {document}"]
    if named not in [row["id"] for row in rows] or named != heard.header("outloop-audit-id"):
        return [f"the document names row {named}, the rows are {[row['id'] for row in rows]}"]
    return []


def _wrong_with_upstream(case: Case, sent: list[Sent], *, is_dialled: bool) -> list[str]:
    wrong = []
    if sent != list(case.upstream):
        wrong.append("the upstream got\n" + _lines(sent) + "\nnot\n" + _lines(case.upstream))
    if not case.upstream and is_dialled and not case.dials:
        wrong.append("a connection was opened for a request that must not leave")
    if AGENTS_OWN.encode() in repr(sent).encode():
        wrong.append(f"the upstream got the agent's own credential: {_lines(sent)}")
    return wrong


def _wrong_with_rows(case: Case, rows: list[Record], audit_id: str | None) -> list[str]:
    wrong = []
    found = tuple((row["decision"], row["reason"]) for row in rows)
    if found != case.expected_rows:
        wrong.append(f"the rows are {[_said(row) for row in rows]}, not {case.expected_rows}")
    if answered := [row for row in rows if row["id"] == audit_id and row["status"] != case.status]:
        wrong.append(f"the row says status {answered[0]['status']}, not {case.status}")
    exposing = [dict(row) for row in rows if any(each in repr(row) for each in (TOKEN, AGENTS_OWN, FOREIGN, DECOY))]
    return wrong + [f"a credential stands in the record: {row}" for row in exposing]


def _wrong_with_alarms(case: Case, alarms: Sequence[str]) -> list[str]:
    return [] if tuple(alarms) == case.decoys else [f"the alarm rang for {list(alarms)}, not {list(case.decoys)}"]


def _said(row: Record) -> str:
    return " ".join(str(row[name]) for name in ("decision", "reason", "status", "method", "host", "path", "error"))


def _lines(requests: Sequence[Sent]) -> str:
    return "\n".join(f"  {each!r}" for each in requests) or "  nothing"
