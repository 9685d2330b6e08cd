"""`outloop up`: the proxy, ready when it says so."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest

from harness.operators import PATIENCE_S, Operator
from harness.proxy import free_port


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_listens_and_ends_when_told(operator: Operator, number: signal.Signals) -> None:
    operator.outloop("workspace", "add", "acme", "--service", "calendly")
    port = free_port()
    command = [sys.executable, "-m", "outloop", "up", "--port", str(port)]
    process = subprocess.Popen(command, env=operator.variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert f"listening on http://127.0.0.1:{port}" in first, first + process.stdout.read()
        assert operator.run("env", "-w", "acme").stdout.startswith(f"export HTTPS_PROXY='http://127.0.0.1:{port}'\n")
        process.send_signal(number)
        rest, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, rest
    assert "Traceback" not in rest
    assert "no running proxy found" in operator.run("env", "-w", "acme").stderr


def test_a_port_that_is_taken_is_one_line(operator: Operator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = operator.run("up", "--port", str(port))
    assert done.returncode == 2
    assert done.stderr.startswith(f"outloop: error: port {port} cannot be used:")
    assert done.stderr.count("\n") == 2


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(None, "does not exist", id="missing"),
        pytest.param("no certificate", "holds no certificate", id="no-certificate"),
    ],
)
def test_an_upstream_authority_that_is_none_stops_the_start(operator: Operator, content: str | None, error: str) -> None:
    operator.outloop("workspace", "add", "acme")
    path = operator.folder / "upstream.pem"
    if content is not None:
        path.write_text(content)
    done = operator.run("up", "--port", str(free_port()), "--upstream-ca", str(path))
    assert done.returncode != 0
    assert error in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_broken_policy_stops_the_start_with_its_place(operator: Operator) -> None:
    operator.write_policy("acme", "workspace: acme\nservcies: {}\n")
    done = operator.run("up", "--port", str(free_port()))
    assert done.returncode != 0
    assert "acme.yaml:2:1:" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
