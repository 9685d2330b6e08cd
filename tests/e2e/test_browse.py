"""The pages of `outloop audit browse`, read over HTTP."""

from __future__ import annotations

import csv
import http.client
import io
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest

from harness.operators import Operator
from harness.rows import decision, outcome
from harness.site import Rows, filled, serving
from outloop.core.ledger import timestamp
from outloop.store.audit import AuditWriter
from outloop.store.confinement import confine
from outloop.store.records import Records

pytestmark = pytest.mark.skipif(
    find_spec("datasette_dashboards") is None, reason="datasette and its charts are not installed (pip install 'outloop[browse]')"
)

QUERIES = {
    "denied_today": "Denied today, and why",
    "writes_by_workspace": "Writes by workspace",
    "keys_by_use_and_age": "Keys by use and age",
    "agents_by_use": "Agents by use",
    "slowest_upstreams": "Slowest upstreams",
    "what_an_agent_touched": "What an agent touched",
    "what_was_scrubbed": "What was scrubbed",
    "unproved_access_in_use": "Unproved access in use",
}
TABLES = ("audit", "claims", "keys", "agents", "approvals", "decisions", "outcomes", "events")
PAGES = (
    "",
    "audit",
    *(f"audit/{name}" for name in (*TABLES, *QUERIES)),
    "audit/audit?_wide=1",
    "audit/audit?_facet=path&_facet=agent&_days=all",
    "audit?sql=select+path,+agent,+host+from+decisions",
    "-/dashboards/charts",
    "-/dashboards/charts?workspace=acme",
    "-/dashboards/charts/requests_per_hour",
    "request",
    "row",
)


@dataclass(frozen=True)
class Visitor:
    """Someone who opened the address that was printed, and the record that is served."""

    http: httpx.Client
    address: str
    sign_in: str
    rows: Rows

    def page(self, path: str, **headers: str) -> str:
        answer = self.http.get(self.address + self.path(path), headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.text

    def path(self, name: str) -> str:
        named = {"request": f"-/request/{self.rows.denied.id}", "row": f"audit/decisions/{self.rows.denied.id}"}
        return named.get(name, name)

    def facts(self, path: str) -> list[dict[str, object]]:
        answer = self.http.get(f"{self.address}{path}.json", params={"_shape": "array"})
        rows: list[dict[str, object]] = answer.raise_for_status().json()
        return rows


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    operator = Operator(tmp_path_factory.mktemp("browse"))
    rows = filled(operator)
    with serving(operator) as printed, httpx.Client(trust_env=False, timeout=60, follow_redirects=True) as client:
        assert client.get(printed["sign_in"]).status_code == 200
        yield Visitor(client, printed["address"], printed["sign_in"], rows)


@pytest.fixture
def stranger() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=60) as client:
        yield client


class Elements(HTMLParser):
    """Collects what a page would run, load or follow."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self._is_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_script = tag == "script"
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action", "formaction")]
        self.loads += [value or "" for name, value in attrs if name == "src" or (tag == "link" and name == "href")]

    def handle_data(self, data: str) -> None:
        if self._is_script:
            self.scripts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._is_script = False


# Who may look


def test_the_address_signs_in_once(visitor: Visitor, stranger: httpx.Client) -> None:
    assert stranger.get(visitor.sign_in).status_code == 403
    assert not stranger.cookies


@pytest.mark.parametrize(
    "path", [*PAGES, "-/request/01KDVDVDVDVDVDVDVDVDVDVDVD.json", "audit/audit.json", "audit/audit.csv", "audit.db"]
)
def test_only_who_signed_in_may_look(visitor: Visitor, stranger: httpx.Client, path: str) -> None:
    answer = stranger.get(visitor.address + visitor.path(path))

    assert answer.status_code == 403
    assert "acme" not in answer.text
    assert stranger.get(visitor.address + "-/auth-token?token=guessed").status_code == 403


def test_who_signed_out_is_a_stranger_again(tmp_path: Path) -> None:
    operator = Operator(tmp_path)
    filled(operator)

    with serving(operator) as printed, httpx.Client(trust_env=False, timeout=60, follow_redirects=True) as client:
        page = client.get(printed["sign_in"]).text
        token = re.search(r'name="csrftoken" value="([^"]+)"', page)
        assert token
        assert client.post(f"{printed['address']}-/logout", data={"csrftoken": "guessed"}).status_code == 403
        client.post(f"{printed['address']}-/logout", data={"csrftoken": token[1]})

        assert client.get(printed["address"]).status_code == 403
        assert "ds_actor" not in client.cookies


def test_a_cookie_is_for_this_path_alone_and_no_script_reads_it(visitor: Visitor) -> None:
    jar = {cookie.name: cookie for cookie in visitor.http.cookies.jar}

    assert jar["ds_actor"].path == urlsplit(visitor.address).path
    assert len(jar["ds_actor"].path) > 20
    for cookie in jar.values():
        assert cookie.has_nonstandard_attr("HttpOnly")
        assert cookie.get_nonstandard_attr("SameSite") == "Strict"


def test_nothing_is_there_without_the_part_of_the_path_that_nobody_knows(visitor: Visitor) -> None:
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in visitor.http.cookies.jar)
    origin = visitor.address.split("/", 3)

    for path in ("", "audit", "audit/audit.json", "-/dashboards/charts"):
        answer = httpx.get(f"http://{origin[2]}/{path}", headers={"cookie": cookies}, trust_env=False)
        assert answer.status_code == 404
        assert "acme" not in answer.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Host": "evil.example"}, 421, id="rebound-name"),
        pytest.param({"Host": "127.0.0.1"}, 421, id="without-the-port"),
        pytest.param({"Host": "localhost.evil.example:{port}"}, 421, id="name-that-begins-like-ours"),
        pytest.param({"Origin": "http://evil.example"}, 403, id="origin-of-another-site"),
        pytest.param({"Origin": "null"}, 403, id="origin-of-nowhere"),
        pytest.param({"Origin": "http://127.0.0.1:1"}, 403, id="origin-of-another-port"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, 403, id="led-here-by-another-site"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, 403, id="led-here-by-another-port"),
        pytest.param({"Sec-Fetch-Site": "same-origin"}, 200, id="own-page"),
        pytest.param({"Sec-Fetch-Site": "none"}, 200, id="typed"),
        pytest.param({"Host": "localhost:{port}"}, 200, id="localhost"),
    ],
)
def test_other_sites_may_not_ask(visitor: Visitor, headers: dict[str, str], status: int) -> None:
    port = urlsplit(visitor.address).port
    headers = {name: value.replace("{port}", str(port)) for name, value in headers.items()}

    answer = visitor.http.get(visitor.address + "audit/audit.json", headers=headers)

    assert answer.status_code == status
    assert ("acme" in answer.text) == (status == 200)


def test_two_hosts_are_one_too_many(visitor: Visitor) -> None:
    place = urlsplit(visitor.address)
    with closing(http.client.HTTPConnection("127.0.0.1", place.port, timeout=60)) as connection:
        connection.putrequest("GET", place.path, skip_host=True)
        connection.putheader("Host", f"127.0.0.1:{place.port}")
        connection.putheader("Host", "evil.example")
        connection.endheaders()
        assert connection.getresponse().status in (400, 421)


@pytest.mark.parametrize(
    "path", [*PAGES, "audit/audit.json", "audit/audit.csv", "outloop/outloop.css", "-/nothing", "audit?sql=nonsense"]
)
def test_every_answer_forbids_foreign_scripts_and_frames(visitor: Visitor, path: str) -> None:
    answer = visitor.http.get(visitor.address + visitor.path(path))
    policy = answer.headers["content-security-policy"]

    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-eval" not in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "private, no-store"
    assert "access-control-allow-origin" not in answer.headers


# What there is to see


def test_the_front_page_says_how_things_stand(visitor: Visitor) -> None:
    page = visitor.page("")
    tiles = re.findall(r"<b>([^<]*)</b>\s*([^<]*)</a></li>", page)

    assert {words.strip(): figure for figure, words in tiles} == {
        "requests today": "8",
        "denied today": "3",
        "claims verified": "1 of 2",
        "waiting for approval": "1",
        "keys on": "1 of 1",
    }
    assert visitor.rows.under_way.id in page
    for name, title in QUERIES.items():
        assert title in page
        assert f"audit/{name}" in page


def test_a_record_without_rows_has_a_front_page(tmp_path: Path) -> None:
    operator = Operator(tmp_path)
    operator.home.mkdir(mode=0o700)
    writer = AuditWriter(operator.home / "audit.db", time.time)
    writer.start()
    writer.close()

    with serving(operator) as printed, httpx.Client(trust_env=False, timeout=60, follow_redirects=True) as client:
        assert "No request has been made yet" in client.get(printed["sign_in"]).text
        for name in QUERIES:
            assert client.get(f"{printed['address']}audit/{name}").status_code == 200


def test_queries_and_tables_have_titles(visitor: Visitor) -> None:
    page = visitor.page("audit")

    for title in (*QUERIES.values(), "Requests", "Claims", "Decisions (append-only)"):
        assert title in page
    for table in TABLES:
        assert f'/audit/{table}"' in page


def test_the_requests_page_has_notes_facets_and_badges(visitor: Visitor) -> None:
    page = visitor.page("audit/audit")

    assert "measured, none left the proxy" in page
    for facet in ("workspace", "service", "decision", "reason", "runtime_mode"):
        assert f'id="facet-{facet}"' in page
    assert '<span class="badge bad"><span aria-hidden="true">✕</span> deny</span>' in page
    assert '<span class="badge good"><span aria-hidden="true">✓</span> allow</span>' in page
    assert "not measured" in page
    assert "under way" in page
    assert f'/-/request/{visitor.rows.written.id}"' in page


@pytest.mark.parametrize(("days", "is_shown"), [("", False), ("_days=30", False), ("_days=all", True), ("_days=junk", False)])
def test_rows_of_old_are_shown_when_asked_for(visitor: Visitor, days: str, is_shown: bool) -> None:
    writer = AuditWriter(visitor.rows.path, lambda: time.time() - 40 * 86_400)
    old = decision(id=writer.ids.next(), at=timestamp(int((time.time() - 40 * 86_400) * 1000)), workspace="old")
    writer.append_now(old)
    writer.close()

    assert (old.id in visitor.page(f"audit/audit?{days}")) is is_shown
    assert (old.id in visitor.page(f"audit/decisions?{days}")) is is_shown
    assert visitor.facts(f"-/request/{old.id}")  # whatever its age


@pytest.mark.parametrize("query", QUERIES)
def test_every_ready_query_answers(visitor: Visitor, query: str) -> None:
    assert visitor.facts(f"audit/{query}")
    assert "<table" in visitor.page(f"audit/{query}")
    assert QUERIES[query] in visitor.page(f"audit/{query}")


def test_ready_queries_answer_what_they_say(visitor: Visitor) -> None:
    rows = visitor.rows
    denied = {row["id"]: row["reason"] for row in visitor.facts("audit/denied_today")}
    assert denied[rows.denied.id] == "path_not_allowed"
    assert rows.written.id not in denied
    (writes,) = visitor.facts("audit/writes_by_workspace")
    assert (writes["workspace"], writes["writes"], writes["succeeded"]) == ("acme", 2, 2)
    (key,) = [
        row for row in visitor.facts("audit/keys_by_use_and_age") if row["key"] == "acme-calendly" and row["workspace"] == "acme"
    ]
    assert (key["runtime_access"], key["age_days"]) == ("on", 0)
    (slow,) = [row for row in visitor.facts("audit/slowest_upstreams") if row["service"] == "calendly"]
    assert (slow["host"], slow["max_ms"]) == ("api.calendly.com", 250)
    (scrubbed,) = visitor.facts("audit/what_was_scrubbed")
    assert (scrubbed["id"], scrubbed["scrubbed"]) == (rows.written.id, 3)
    (unproved,) = [row for row in visitor.facts("audit/unproved_access_in_use") if row["workspace"] == "acme"]
    assert (unproved["access"], unproved["why"], unproved["requests"]) == ("write", "no proof has run", 2)


def test_what_an_agent_touched_shows_the_last_one_unless_told_which(visitor: Visitor) -> None:
    touched = visitor.facts("audit/what_an_agent_touched")
    named = visitor.http.get(
        visitor.address + "audit/what_an_agent_touched.json", params={"agent": "<b>claude", "workspace": "", "_shape": "array"}
    ).json()

    assert {row["agent"] for row in touched} == {"claude"}
    assert {row["agent"] for row in named} == {"<b>claude"}


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

    with closing(sqlite3.connect(tmp_path / "audit.db")) as db:
        confine(db)
        (row,) = db.execute(metadata["databases"]["audit"]["queries"]["slowest_upstreams"]["sql"]).fetchall()
        latency = metadata["plugins"]["datasette-dashboards"]["charts"]["charts"]["latency_over_time"]["query"]
        chart = {name: value for _, name, value in db.execute(re.sub(r"\[\[.*?\]\]", "", latency))}

    assert row == ("api.calendly.com", "calendly", 100, 50.0, 95.0, 100.0)
    assert chart == {"median": 50.0, "95th of 100": 95.0}


def test_a_request_has_a_page_with_its_proof_rule_approval_and_neighbours(visitor: Visitor) -> None:
    rows = visitor.rows
    page = visitor.page(f"-/request/{rows.approved.id}")
    facts = visitor.http.get(f"{visitor.address}-/request/{rows.approved.id}.json").json()

    assert "runtime_verified: yes" in page
    assert "acme.yaml:7" in page
    assert "audit/audit?rule=acme.yaml%3A7" in page
    assert [event["kind"] for event in facts["approval_events"]] == ["approval_requested", "approval_approved"]
    assert "approval_approved" in page
    assert [row["id"] for row in facts["after"]] == [rows.unmeasured.id]  # of the same session
    assert f"/-/request/{rows.unmeasured.id}" in page
    assert facts["proof"][5] == "runtime_verified: yes"
    assert {"key_enabled", "policy_loaded"} <= {event["kind"] for event in facts["events"]}


def test_a_request_that_proves_nothing_says_why(visitor: Visitor) -> None:
    page = visitor.page(f"-/request/{visitor.rows.unmeasured.id}")

    assert "secret_exposed: not measured" in page
    assert "could not be measured" in page


@pytest.mark.parametrize("audit_id", ["01KDVDVDVDVDVDVDVDVDVDVDVD", "%3Cscript%3E", "../audit"])
def test_a_request_that_is_not_there_is_not_found(visitor: Visitor, audit_id: str) -> None:
    answer = visitor.http.get(f"{visitor.address}-/request/{audit_id}", follow_redirects=False)

    assert answer.status_code in (302, 404)


def test_rows_written_meanwhile_are_seen(visitor: Visitor) -> None:
    writer = AuditWriter(visitor.rows.path, time.time)
    row = decision(id=writer.ids.next(), workspace="later")
    writer.append_now(row)
    writer.close()

    assert row.id in visitor.page("audit/decisions")


# What an agent wrote


@pytest.mark.parametrize("path", PAGES)
def test_hostile_text_is_inert_on_every_page(visitor: Visitor, path: str) -> None:
    page = visitor.page(path)
    found = Elements(page)

    # Numbers of Datasette's own aside, no page has a script in it: all of them are files.
    assert not [script for script in found.scripts if script.strip()]
    assert not found.handlers
    assert not [link for link in found.links if link.lower().startswith(("javascript:", "data:", "http://evil", "https://evil"))]
    assert not [load for load in found.loads if not load.startswith(urlsplit(visitor.address).path)]
    assert not set(page) & set("\x1b\x07\u202e")


def test_hostile_text_is_there_to_be_read(visitor: Visitor) -> None:
    for path in ("audit/audit", "audit/decisions", "audit/denied_today", "request", "audit?sql=select+path+from+decisions"):
        page = visitor.page(path)
        assert "&lt;script&gt;alert(1)" in page, path
        assert "\\u202e" in page or "\\x1b" in page, path


def test_text_edited_into_the_file_is_inert_too(tmp_path: Path) -> None:
    operator = Operator(tmp_path)
    rows = filled(operator)
    with closing(sqlite3.connect(rows.path)) as db, db:
        db.execute("DROP TRIGGER decisions_no_update")
        db.execute(
            "UPDATE decisions SET path = ?, reason = ?, decision = 'deny'",
            ["/\u202e\x1b[2J<script>alert(9)</script>", "\u202eKO"],
        )

    with serving(operator) as printed, httpx.Client(trust_env=False, timeout=60, follow_redirects=True) as client:
        client.get(printed["sign_in"])
        for path in ("audit/audit", "audit/decisions", "", f"-/request/{rows.denied.id}", "audit/denied_today"):
            page = client.get(printed["address"] + path).text
            assert "alert(9)" in page
            assert not set(page) & set("\x1b\u202e")
            assert not [script for script in Elements(page).scripts if script.strip()]


@pytest.mark.parametrize(
    "path",
    ["audit/audit.csv", "audit/audit.csv?_stream=1&_dl=1", "audit/denied_today.csv", "audit.csv?sql=select+*+from+decisions"],
)
def test_no_cell_of_a_csv_begins_as_a_formula(visitor: Visitor, path: str) -> None:
    text = visitor.page(path)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))

    (hostile,) = [row for row in rows if row["id"] == visitor.rows.formula.id]
    assert (hostile["path"], hostile["method"]) == (f"'{visitor.rows.formula.path}", f"'{visitor.rows.formula.method}")
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]
    assert len({len(row) for row in rows}) == 1


# What nobody can do


def test_nothing_can_be_written_and_the_file_cannot_be_taken(visitor: Visitor) -> None:
    before = Records(visitor.rows.path).verify()

    for sql in (
        "delete from decisions",
        "update decisions set at = 'x'",
        "drop table events",
        "attach ':memory:' as x",
        "select 1; attach '/etc/passwd' as x",
        "with x as (select 1) delete from decisions",
        "explain delete from decisions; delete from decisions",
        "pragma writable_schema = 1",
        "vacuum into '/tmp/outloop-copy.db'",
        "select load_extension('x')",
        "select readfile('/etc/passwd')",
        "select writefile('/tmp/x', 'y')",
    ):
        answer = visitor.http.get(f"{visitor.address}audit.json?sql={quote(sql)}")
        assert answer.status_code == 400, sql
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert visitor.http.request(method, f"{visitor.address}audit/denied_today").status_code == 405
    assert visitor.http.get(f"{visitor.address}audit.db").status_code == 403

    assert Records(visitor.rows.path).verify() == before


@pytest.mark.parametrize(
    "sql",
    [
        pytest.param("with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n", id="endless"),
        pytest.param("select length(randomblob(1000000000))", id="a-gigabyte"),
        pytest.param("select replace(hex(zeroblob(2000000)), '00', hex(zeroblob(1000000)))", id="a-product"),
    ],
)
def test_a_query_that_asks_for_too_much_is_ended(visitor: Visitor, sql: str) -> None:
    answer = visitor.http.get(f"{visitor.address}audit.json?sql={quote(sql)}")

    other = visitor.http.get(f"{visitor.address}_internal.json?sql={quote(sql)}")

    assert (answer.status_code, other.status_code) == (400, 400)
    assert "<" not in answer.json()["error"]
    assert visitor.page("audit/audit")


def test_an_error_is_a_page_and_nothing_on_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    operator = Operator(tmp_path)
    filled(operator)

    with serving(operator) as printed, httpx.Client(trust_env=False, timeout=60, follow_redirects=True) as client:
        client.get(printed["sign_in"])
        for path in ("audit/nothing", "audit?sql=delete+from+x", "-/request/01KDVDVDVDVDVDVDVDVDVDVDVD", "audit/audit?_sort=x"):
            answer = client.get(printed["address"] + path)
            assert answer.status_code in (400, 404), path
            assert "message-error" in answer.text, path
            assert "Overview" in answer.text, path

    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_port_that_is_taken_is_one_line_and_a_hint(visitor: Visitor) -> None:
    operator = Operator(visitor.rows.path.parent.parent)

    done = operator.run("audit", "browse", "--port", str(urlsplit(visitor.address).port))

    assert done.returncode == 2
    assert done.stdout == ""
    error, hint = done.stderr.splitlines()
    assert "address already in use" in error
    assert "--port" in hint


def test_people_get_the_address_and_what_to_do_with_it(tmp_path: Path) -> None:
    operator = Operator(tmp_path)

    done = operator.run("audit", "browse")

    assert done.returncode == 2
    assert "no audit record" in done.stderr


def test_the_address_is_printed_as_one_object(visitor: Visitor) -> None:
    assert visitor.sign_in.startswith(f"{visitor.address}-/auth-token?token=")
    assert json.dumps(visitor.sign_in).isascii()
