"""Datasette over a record, served as `outloop audit browse` serves it, and its pages read over HTTP."""

from __future__ import annotations

import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from harness.operators import Operator
from harness.rows import decision, event, outcome
from outloop.core.ledger import DecisionRow, timestamp
from outloop.store.audit import AuditWriter
from outloop.store.records import Records

pytestmark = pytest.mark.skipif(
    find_spec("datasette") is None, reason="datasette is not installed (pip install 'outloop[browse]')"
)

HOSTILE = "/<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b]0;owned\x07\u202e"
QUERIES = ("denied_today", "writes_by_workspace", "keys_by_use_and_age", "slowest_upstreams", "what_was_scrubbed")


@dataclass(frozen=True)
class Browser:
    """Someone who opened the address that was printed, and the record that is served."""

    http: httpx.Client
    url: str
    path: Path
    denied: DecisionRow
    written: DecisionRow

    def page(self, path: str) -> str:
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    def facts(self, path: str) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = self.http.get(f"{path}.json", params={"_shape": "array"}).raise_for_status().json()
        return rows


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    operator = Operator(tmp_path_factory.mktemp("browse"))
    operator.home.mkdir(mode=0o700)
    path = operator.home / "audit.db"
    writer = AuditWriter(path, time.time)
    now = timestamp(int(time.time() * 1000))

    def write(**changes: object) -> DecisionRow:
        row = decision(**({"id": writer.ids.next(), "at": now} | changes))
        writer.append_now(row)
        return row

    writer.append_now(writer.event("key_added", workspace="acme", service="calendly", key="acme-calendly"))
    writer.append_now(writer.event("key_enabled", workspace="acme", service="calendly", key="acme-calendly"))
    written = write(method="POST", runtime_mode="write", path="/scheduling_links")
    writer.append_now(outcome(written, status=201, scrubbed=3, upstream_ms=250.0))
    denied = write(path=HOSTILE, agent="<b>claude", decision="deny", reason="path_not_allowed", key=None)
    writer.append_now(outcome(denied, status=403, upstream_ms=None))
    write(method="GET", path="http://evil.example/", decision="deny", reason="malformed_request", host="", service=None)
    writer.append_now(event("ca_distrusted", host="<script>alert(3)</script>", detail="https://evil.example/"))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "outloop", "audit", "browse", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=operator.variables)
    assert process.stdout is not None
    sign_in = ""
    for line in process.stdout:
        sign_in = sign_in or (re.match(r"http://127\.0\.0\.1:\d+/-/auth-token\?token=\w+", line) or [""])[0]
        if "Uvicorn running" in line:
            break
    drain = threading.Thread(target=process.stdout.read)
    drain.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as http:
        assert http.get(sign_in).status_code == 302
        yield Browser(http, str(http.base_url), path, denied, written)
    process.terminate()
    process.wait(timeout=30)
    drain.join()
    process.stdout.close()
    writer.close()


class Elements(HTMLParser):
    """Collects what a page would run or follow."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self._is_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_script = tag == "script"
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        if self._is_script:
            self.scripts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._is_script = False


def test_only_who_opened_the_printed_address_may_look(browser: Browser) -> None:
    stranger = httpx.Client(base_url=browser.url, trust_env=False)

    for path in (
        "/",
        "/audit",
        "/audit/audit",
        "/audit/audit.json",
        "/audit/denied_today.json",
        "/audit.json?sql=select+1",
        "/audit.db",
    ):
        answer = stranger.get(path)
        assert answer.status_code == 403, path
        assert browser.written.id not in answer.text
    assert stranger.get("/-/auth-token?token=guessed").status_code == 403


def test_the_front_page_names_what_there_is(browser: Browser) -> None:
    page = browser.page("/audit")

    assert "Outloop audit record" in browser.page("/")
    for title in (
        "Denied today, and why",
        "Writes by workspace",
        "Keys by use and age",
        "Slowest upstreams",
        "What was scrubbed",
    ):
        assert title in page
    for table in ("audit", "claims", "keys", "agents", "approvals", "decisions", "outcomes", "events"):
        assert f'href="/audit/{table}"' in page


def test_the_requests_page_has_notes_and_facets(browser: Browser) -> None:
    page = browser.page("/audit/audit")

    assert "measured, none left the proxy" in page
    for facet in ("workspace", "service", "decision", "reason", "runtime_mode"):
        assert f'data-column="{facet}"' in page
        assert f"facet-{facet}" in page or f'id="facet-{facet}"' in page


@pytest.mark.parametrize("query", QUERIES)
def test_every_ready_query_answers(browser: Browser, query: str) -> None:
    assert browser.facts(f"/audit/{query}")
    assert "Query took" in browser.page(f"/audit/{query}") or "<table" in browser.page(f"/audit/{query}")


def test_ready_queries_answer_what_they_say(browser: Browser) -> None:
    denied = {row["id"]: row["reason"] for row in browser.facts("/audit/denied_today")}
    assert denied[browser.denied.id] == "path_not_allowed"
    assert browser.written.id not in denied
    (writes,) = browser.facts("/audit/writes_by_workspace")
    assert (writes["workspace"], writes["writes"], writes["succeeded"]) == ("acme", 1, 1)
    (key,) = browser.facts("/audit/keys_by_use_and_age")
    assert (key["key"], key["runtime_access"], key["requests"], key["last_status"], key["age_days"]) == (
        "acme-calendly",
        "on",
        1,
        201,
        0,
    )
    (slow,) = browser.facts("/audit/slowest_upstreams")
    assert (slow["host"], slow["requests"], slow["median_ms"], slow["p95_ms"], slow["max_ms"]) == (
        "api.calendly.com",
        1,
        250,
        250,
        250,
    )
    (scrubbed,) = browser.facts("/audit/what_was_scrubbed")
    assert (scrubbed["id"], scrubbed["scrubbed"]) == (browser.written.id, 3)


def test_medians_and_percentiles_are_those_of_the_rows(tmp_path: Path) -> None:
    import yaml

    from outloop.operator.browse import FOLDER

    writer = AuditWriter(tmp_path / "audit.db", time.time)
    for milliseconds in range(1, 101):
        row = decision(id=writer.ids.next(), at=timestamp(int(time.time() * 1000)))
        writer.append_now(row)
        writer.append_now(outcome(row, upstream_ms=milliseconds))
    writer.close()
    metadata = yaml.safe_load((FOLDER / "metadata.yaml").read_text())

    with sqlite3.connect(tmp_path / "audit.db") as db:
        (row,) = db.execute(metadata["databases"]["audit"]["queries"]["slowest_upstreams"]["sql"]).fetchall()

    assert row == ("api.calendly.com", "calendly", 100, 50.0, 95.0, 100.0)


@pytest.mark.parametrize(
    "path",
    [
        "/audit/audit",
        "/audit/decisions",
        "/audit/events",
        "/audit/agents",
        "/audit/denied_today",
        "/audit/audit?_facet=path&_facet=agent",
        "row",
    ],
)
def test_hostile_text_is_inert_on_every_page(browser: Browser, path: str) -> None:
    page = browser.page(f"/audit/decisions/{browser.denied.id}" if path == "row" else path)
    found = Elements(page)

    assert "alert(" in page or path in ("/audit/agents",)
    assert not [script for script in found.scripts if "alert(" in script]
    assert not [handler for handler in found.handlers if handler not in ("onsubmit", "onclick")]
    assert not [link for link in found.links if link.startswith(("javascript:", "http://evil", "https://evil"))]
    assert not set(page) & set("\x1b\x07\u202e")


def test_nothing_can_be_written_and_the_file_cannot_be_taken(browser: Browser) -> None:
    before = Records(browser.path).verify()

    for sql in (
        "delete from decisions",
        "update decisions set at = 'x'",
        "drop table events",
        "attach ':memory:' as x",
        "pragma writable_schema = 1",
    ):
        answer = browser.http.get(f"/audit.json?sql={quote(sql)}")
        assert answer.status_code == 400, sql
    assert browser.http.get("/audit.db").status_code == 403

    assert Records(browser.path).verify() == before


def test_rows_written_meanwhile_are_seen(browser: Browser) -> None:
    writer = AuditWriter(browser.path, time.time)
    row = decision(id=writer.ids.next())
    writer.append_now(row)
    writer.close()

    assert row.id in browser.page("/audit/decisions")


def test_a_port_that_is_taken_is_said_without_a_traceback(browser: Browser) -> None:
    operator = Operator(browser.path.parent.parent)

    done = operator.run("audit", "browse", "--port", browser.url.rpartition(":")[2].strip("/"))

    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "address already in use" in done.stderr
