"""`outloop audit export --otlp`, as the program that it is: over TLS, interrupted, killed, and started again."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.collector import Said, collector
from harness.operators import PATIENCE_S, Operator
from harness.rows import decision, outcome
from outloop.attacks.upstream.certs import Authority
from outloop.store.audit import AuditWriter


@pytest.fixture
def writer(operator: Operator) -> Iterator[AuditWriter]:
    operator.home.mkdir(mode=0o700)
    writer = AuditWriter(operator.home / "audit.db", time.time)
    writer.start()
    yield writer
    writer.close()


def wrote(writer: AuditWriter) -> str:
    row = decision(id=writer.ids.next())
    writer.append_now(row)
    writer.append_now(outcome(row))
    return row.id


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


@contextmanager
def following(operator: Operator, url: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "outloop", "audit", "export", "--otlp", url, "--follow"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=operator.variables)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_over_tls_with_a_header_from_the_environment(
    operator: Operator, writer: AuditWriter, authority: Authority, upstream_ca: Path
) -> None:
    audit_id = wrote(writer)
    trusting = dataclasses.replace(operator, environ={"SSL_CERT_FILE": str(upstream_ca), "TOKEN": "Bearer collector-token"})
    with collector(tls=authority.server_context("localhost")) as arrived:
        url = f"https://localhost:{arrived.port}"
        shown = trusting.outloop("audit", "export", "--otlp", url, "--header", "Authorization=env:TOKEN")

    assert shown == f"sent 1 rows to {url}/v1/logs\n"
    assert arrived.ids == [audit_id]
    assert arrived.requests[0][1]["Authorization"] == "Bearer collector-token"


def test_a_collector_that_is_not_trusted_gets_nothing(
    operator: Operator, writer: AuditWriter, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrote(writer)
    with collector(tls=authority.server_context("localhost")) as arrived:
        script = (
            "import sys; from outloop.operator import delivery; delivery.ATTEMPTS = 1\n"
            "from outloop.cli.main import main; sys.exit(main(sys.argv[1:]))"
        )
        command = [sys.executable, "-c", script, "audit", "export", "--otlp", f"https://localhost:{arrived.port}"]
        done = subprocess.run(command, capture_output=True, text=True, env=operator.variables, check=False)

    assert done.returncode == 1
    assert "certificate" in done.stderr.lower()
    assert arrived.requests == []


def test_what_comes_is_sent_until_it_is_interrupted(operator: Operator, writer: AuditWriter) -> None:
    ids = [wrote(writer)]
    with collector() as arrived, following(operator, arrived.url) as process:
        wait_until(lambda: arrived.ids == ids)
        ids.append(wrote(writer))
        wait_until(lambda: arrived.ids == ids)
        process.send_signal(signal.SIGINT)

        assert process.wait(PATIENCE_S) == 130
        assert process.communicate()[1].strip() == ""


def test_killed_again_and_again_it_loses_nothing(operator: Operator, writer: AuditWriter) -> None:
    ids: list[str] = []
    with collector([Said(503, headers={"Retry-After": "0"})] * 3) as arrived:
        for _ in range(4):
            ids += [wrote(writer) for _ in range(20)]
            with following(operator, arrived.url) as process:
                seen = len(arrived.requests)
                wait_until(lambda seen=seen: len(arrived.requests) > seen)  # type: ignore[misc]
                process.kill()
        operator.outloop("audit", "export", "--otlp", arrived.url)

    assert set(arrived.ids) == set(ids)
    assert list(dict.fromkeys(arrived.ids)) == ids  # first seen in order


def test_a_collector_that_comes_up_later_gets_everything(operator: Operator, writer: AuditWriter) -> None:
    audit_id = wrote(writer)
    busy = [Said(503, headers={"Retry-After": "0"})] * 12
    with collector(busy) as arrived, following(operator, arrived.url):
        wait_until(lambda: bool(arrived.taken))

    assert arrived.ids == [audit_id]


def test_what_a_collector_dropped_makes_it_exit_1(operator: Operator, writer: AuditWriter) -> None:
    wrote(writer)
    with collector([Said(200, b'{"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "full"}}')]) as arrived:
        done = operator.run("audit", "export", "--otlp", arrived.url)

    assert done.returncode == 1
    assert "the collector dropped 1 of 1 rows: full" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--otlp", "http://127.0.0.1:1", "--format", "csv"], "--otlp goes with", id="format"),
        pytest.param(["--otlp", "http://127.0.0.1:1", "--since", "1h"], "--otlp goes with", id="since"),
        pytest.param(["--follow"], "--header and --follow go with --otlp", id="follow-alone"),
        pytest.param(["--header", "A=env:B"], "--header and --follow go with --otlp", id="header-alone"),
        pytest.param(["--otlp", "http://collector.example.com"], "only encrypted", id="clear-text"),
        pytest.param(["--otlp", "http://127.0.0.1:1", "--header", "A=b"], "NAME=env:VARIABLE", id="header-value"),
    ],
)
def test_wrong_usage(operator: Operator, writer: AuditWriter, arguments: list[str], message: str) -> None:
    done = operator.run("audit", "export", *arguments)

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
