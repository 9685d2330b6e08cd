"""The record as an outbox, against a collector that reads with OpenTelemetry's own definitions."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.collector import Said, collector
from harness.proxy import free_port
from harness.rows import decision, event, outcome
from outloop.core.errors import NoError, UsageError
from outloop.core.ledger import DecisionRow
from outloop.core.secret import Secret
from outloop.operator import delivery
from outloop.operator.collector import Collector, read_headers
from outloop.operator.delivery import Delivery
from outloop.store.audit import AuditWriter
from outloop.store.outbox import OPEN_PATIENCE_S, Deliveries, Outbox

BUSY = Said(503, b"busy")


class Desk:
    """A record, and deliveries of it; pauses turn a clock instead of taking their time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer = AuditWriter(folder / "audit.db", time.time)
        self.writer.start()
        self.now = 0.0
        self.pauses: list[float] = []
        self.told: list[str] = []

    def wrote(self, requests: int = 1, **changes: object) -> list[str]:
        ids = []
        for _ in range(requests):
            row = decision(**changes)
            self.writer.append_now(row)
            self.writer.append_now(outcome(row))
            ids.append(row.id)
        return ids

    def opened(self) -> DecisionRow:
        row = decision()
        self.writer.append_now(row)
        return row

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def delivery(self, url: str, workspace: str | None = None) -> Delivery:
        place = Collector(url)
        outbox = Outbox(self.folder / "audit.db", lambda: self.now, workspace)
        target = f"{place.url} {workspace}" if workspace else place.url
        return Delivery(outbox, place, Deliveries(self.folder / "state.db"), target, self.told.append, self.pause)

    def deliver(self, url: str, workspace: str | None = None) -> Delivery:
        made = self.delivery(url, workspace)
        try:
            made.run(follow=False)
        finally:
            made.collector.close()
        return made


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.writer.close()


def test_a_collector_gets_everything_once_and_then_only_what_is_new(desk: Desk) -> None:
    ids = desk.wrote(3)
    with collector() as arrived:
        assert desk.deliver(arrived.url).sent == 3
        assert desk.deliver(arrived.url).sent == 0
        ids += desk.wrote(2)
        assert desk.deliver(arrived.url).sent == 2

    assert arrived.ids == ids
    assert [path for path, *_ in arrived.requests] == ["/v1/logs"] * 2
    assert arrived.resource["service.name"] == "outloop"
    assert arrived.taken[0].attributes["http.response.status_code"] == 200
    assert arrived.taken[0].attributes["outloop.secret_exposed"] is False


def test_events_are_sent_too(desk: Desk) -> None:
    desk.writer.append_now(event("key_enabled", key="k"))
    with collector() as arrived:
        desk.deliver(arrived.url)

    (log,) = arrived.taken
    assert (log.name, log.attributes["outloop.key"]) == ("outloop.key_enabled", "k")
    assert not log.attributes.keys() & {"outloop.writer", "outloop.seq"}


def test_each_target_and_each_workspace_has_its_own_place(desk: Desk) -> None:
    acme, globex = desk.wrote(2), desk.wrote(1, workspace="globex")
    with collector() as one, collector() as other:
        desk.deliver(one.url)
        desk.deliver(other.url, "globex")
        desk.deliver(other.url, "globex")
        desk.deliver(other.url, "acme")

    assert one.ids == acme + globex
    assert other.ids == globex + acme


def test_batches_are_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "BATCH_ROWS", 4)
    ids = desk.wrote(10)
    with collector() as arrived:
        made = desk.delivery(arrived.url)
        made._limit = 4
        made.run(follow=False)
        made.collector.close()

    assert [count for *_, count in arrived.requests] == [4, 4, 2]
    assert arrived.ids == ids


def test_large_rows_go_in_smaller_portions(desk: Desk) -> None:
    ids = desk.wrote(100, path="/" + "x" * 15_000)
    with collector() as arrived:
        desk.deliver(arrived.url)

    assert arrived.ids == ids
    assert max(count for *_, count in arrived.requests) < 70


def test_what_is_too_large_for_the_collector_goes_in_smaller_portions(desk: Desk) -> None:
    ids = desk.wrote(8)
    with collector([Said(413), Said(413), Said(413)]) as arrived:
        desk.deliver(arrived.url)

    assert [count for *_, count in arrived.requests][:3] == [8, 4, 2]
    assert arrived.ids == ids


# When the collector does not take it


@pytest.mark.parametrize("said", [Said(429), Said(502), BUSY, Said(504), Said(drops=True)])
def test_it_is_tried_again_and_nothing_is_lost(desk: Desk, said: Said) -> None:
    ids = desk.wrote(3)
    with collector([said, said]) as arrived:
        desk.deliver(arrived.url)

    assert arrived.ids == ids
    assert len(desk.pauses) == 2
    assert 0.5 <= desk.pauses[0] <= 1 <= desk.pauses[1] <= 2
    assert len(desk.told) == 1


def test_retry_after_is_honoured(desk: Desk) -> None:
    desk.wrote()
    with collector([Said(429, headers={"Retry-After": "17"}), Said(503, headers={"Retry-After": "99999"})]) as arrived:
        desk.deliver(arrived.url)

    assert desk.pauses == [17.0, 3600.0]


def test_a_collector_that_stays_away_ends_it_and_keeps_the_rows(desk: Desk) -> None:
    ids = desk.wrote(2)
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(NoError, match="cannot be reached") as refused:
        desk.deliver(url)

    assert len(desk.pauses) == delivery.ATTEMPTS - 1
    assert "nothing is lost" in str(refused.value.hint)
    with collector() as arrived:
        desk.deliver(arrived.url)
    assert arrived.ids == ids


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 415, 500])
def test_a_refusal_is_not_tried_again_and_keeps_the_rows(desk: Desk, status: int) -> None:
    ids = desk.wrote(2)
    with collector([Said(status, b"no\x1b[2J", {"Location": "/elsewhere"})]) as arrived:
        with pytest.raises(NoError, match=f"HTTP {status}") as refused:
            desk.deliver(arrived.url)
        assert desk.pauses == []
        assert "\x1b" not in refused.value.message
        desk.deliver(arrived.url)
    assert arrived.ids == ids


def test_what_a_collector_dropped_is_told_and_not_sent_again(desk: Desk) -> None:
    desk.wrote(3)
    partly = Said(200, b'{"partialSuccess": {"rejectedLogRecords": "2", "errorMessage": "too old\\u001b[2J"}}')
    with collector([partly]) as arrived:
        made = desk.deliver(arrived.url)
        assert desk.deliver(arrived.url).sent == 0

    assert (made.sent, made.rejected) == (3, 2)
    assert desk.told == ["the collector dropped 2 of 3 rows: too old\\x1b[2J"]


def test_killed_before_it_noted_what_was_taken_it_sends_that_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = desk.wrote(2)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with collector() as arrived:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Deliveries, "advance", die)
            desk.deliver(arrived.url)
        desk.deliver(arrived.url)

    assert arrived.ids == ids * 2


def test_of_two_that_send_at_once_the_slower_does_not_set_the_place_back(desk: Desk) -> None:
    deliveries = Deliveries(desk.folder / "state.db")
    deliveries.advance("t", {"w": 7, "v": 1})
    deliveries.advance("t", {"w": 3, "v": 2})

    assert deliveries.got("t") == {"w": 7, "v": 2}


# Requests that are still open


def test_an_open_request_is_waited_for(desk: Desk) -> None:
    open_row = desk.opened()
    ids = desk.wrote(2)
    with collector() as arrived:
        made = desk.delivery(arrived.url)

        def pause(seconds: float) -> None:
            desk.pause(seconds)
            if len(desk.pauses) == 3:
                desk.writer.append_now(outcome(open_row, status=201))

        made.pause = pause
        made.run(follow=False)
        made.collector.close()

    assert arrived.ids == [*ids, open_row.id]
    assert arrived.taken[-1].attributes["http.response.status_code"] == 201


def test_one_that_stays_open_is_sent_as_it_is_and_again_with_its_outcome(desk: Desk) -> None:
    open_row = desk.opened()
    ids = desk.wrote(2)
    with collector() as arrived:
        desk.deliver(arrived.url)
        assert OPEN_PATIENCE_S <= sum(desk.pauses) <= OPEN_PATIENCE_S + 1
        desk.writer.append_now(outcome(open_row))
        desk.deliver(arrived.url)

    assert arrived.ids == [open_row.id, *ids, open_row.id]
    assert ["http.response.status_code" in log.attributes for log in arrived.taken] == [False, True, True, True]


def test_one_writer_does_not_wait_for_another(desk: Desk) -> None:
    desk.opened()
    other = AuditWriter(desk.folder / "audit.db", time.time)
    row = decision()
    other.append_now(row)
    other.append_now(outcome(row))
    other.close()
    with collector() as arrived:
        desk.deliver(arrived.url)

    assert arrived.ids[0] == row.id


def test_rows_of_a_clock_that_was_set_back_or_forward_are_sent_as_well(desk: Desk) -> None:
    ids = [*desk.wrote(1, at="2099-01-01T00:00:00.000Z"), *desk.wrote(1, at="1999-01-01T00:00:00.000Z")]
    with collector() as arrived:
        desk.deliver(arrived.url)

    assert arrived.ids == ids


def test_what_was_pruned_meanwhile_is_passed_over(desk: Desk) -> None:
    desk.wrote(2)
    with sqlite3.connect(desk.folder / "audit.db") as db:
        writer, digest = db.execute("SELECT writer, hash FROM decisions WHERE seq = 1").fetchone()
        db.execute("INSERT INTO checkpoints VALUES (1, '', '', '', ?, 1, 1, ?, 1, '', '')", [writer, digest])
        db.execute("DELETE FROM decisions WHERE seq = 1")
    with collector() as arrived:
        desk.deliver(arrived.url)

    assert len(arrived.ids) == 1


# Where to, and with what


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/logs", id="without-a-path"),
        pytest.param("http://localhost:4318/", "http://localhost:4318/v1/logs", id="with-a-slash"),
        pytest.param("https://otlp.example.com/otlp/v1/logs", "https://otlp.example.com/otlp/v1/logs", id="with-a-path"),
        pytest.param("http://[::1]:4318", "http://[::1]:4318/v1/logs", id="ipv6"),
    ],
)
def test_the_whole_address_of_a_collector(url: str, expected: str) -> None:
    assert Collector(url).url == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param("http://collector.example.com:4318", "only encrypted", id="in-clear-text"),
        pytest.param("http://10.0.0.1:4318", "only encrypted", id="in-clear-text-nearby"),
        pytest.param("ftp://127.0.0.1", "not a collector's URL", id="scheme"),
        pytest.param("127.0.0.1:4318", "not a collector's URL", id="no-scheme"),
        pytest.param("https://", "not a collector's URL", id="no-host"),
        pytest.param("https://user:secret@example.com", "not a collector's URL", id="with-a-password"),
        pytest.param("https://example.com:99999", "not a collector's URL", id="no-port"),
        pytest.param("https://example.com/?token=x", "not a collector's URL", id="with-a-query"),
    ],
)
def test_what_is_no_collector_is_refused(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Collector(url)


def test_headers_come_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("Bearer from-a-file\n")

    found = read_headers(["Authorization=env:OTLP", f"X-Tenant=file:{file}"], {"OTLP": "Bearer from-env"})

    assert found == {"Authorization": Secret(b"Bearer from-env"), "X-Tenant": Secret(b"Bearer from-a-file")}
    assert "from-env" not in repr(found)


@pytest.mark.parametrize(
    "named",
    [
        pytest.param("Authorization=Bearer secret", id="value-as-argument"),
        pytest.param("Authorization", id="no-source"),
        pytest.param("=env:X", id="no-name"),
        pytest.param("A B=env:X", id="no-header-name"),
        pytest.param("Authorization=env:", id="no-variable"),
        pytest.param("Authorization=env:UNSET", id="unset"),
        pytest.param("Authorization=env:BROKEN", id="two-lines"),
        pytest.param("Authorization=file:/does/not/exist", id="no-file"),
    ],
)
def test_other_headers_are_refused_without_being_repeated(named: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_headers([named], {"X": "x", "BROKEN": "a\r\nX-Injected: b"})

    assert "secret" not in refused.value.message
    assert "Injected" not in refused.value.message


def test_headers_are_sent(desk: Desk) -> None:
    desk.wrote()
    with collector() as arrived:
        made = desk.delivery(arrived.url)
        made.collector.headers = {"Authorization": Secret(b"Bearer collector-token")}
        made.run(follow=False)
        made.collector.close()

    assert arrived.requests[0][1]["Authorization"] == "Bearer collector-token"
    assert arrived.requests[0][1]["Content-Type"] == "application/json"
