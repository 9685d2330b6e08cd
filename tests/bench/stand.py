"""The stand: one upstream, one caller, and the proxies that are measured, all on loopback and in processes of their own.

Policy claims ``localhost:PORT``, so that both proxies dial the same upstream and nothing is rerouted. Both run with ``-q``: what
is printed for each request is not what is measured.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import trustme

from bench.caller import Caller, Job, Result
from bench.processes import PATIENCE_S, ended, helper
from harness.operators import ADDON, Operator
from harness.proxy import free_port
from harness.stage import store_keys

WORKSPACE = "acme"
SERVICE = "bench"
_POLICY = """\
workspace: acme
services:
  bench:
    hosts: ['localhost:{port}']
    auth: {{type: bearer}}
    rules:
      - allow: GET /**
      - deny: DELETE /**
"""


@dataclass(frozen=True, slots=True)
class Side:
    """One way to the upstream: through the proxy *pid* on *port*, or directly."""

    name: str
    authority: Path
    port: int | None = None
    pid: int | None = None
    started_in_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Stand:
    """Everything but the proxies, which each part of the benchmark starts anew."""

    operator: Operator
    upstream_port: int
    upstream_ca: Path
    caller: Caller

    @property
    def direct(self) -> Side:
        """The way without a proxy."""
        return Side("direct", self.upstream_ca)

    def run(self, side: Side, kind: str, requests: int, connections: int = 1) -> Result:
        """Have the caller do a job (see `Job`) through *side*."""
        authority = str(side.authority)
        return self.caller.run(Job(kind, self.upstream_port, side.port, authority, side.pid, connections, requests))

    @contextlib.contextmanager
    def bare(self) -> Iterator[Side]:
        """Run mitmdump without a script."""
        folder = self.operator.folder / "bare"
        options = ["--set", f"confdir={folder}", "--set", f"ssl_verify_upstream_trusted_ca={self.upstream_ca}"]
        options += ["--listen-host", "127.0.0.1"]
        with self._running(Side("bare mitmdump", folder / "mitmproxy-ca-cert.pem"), options) as side:
            yield side

    @contextlib.contextmanager
    def outloop(self) -> Iterator[Side]:
        """Run mitmdump with the addon."""
        with self._running(Side("Outloop", self.operator.certificate), ["-s", str(ADDON / "outloop.py")]) as side:
            yield side

    @contextlib.contextmanager
    def _running(self, side: Side, options: list[str]) -> Iterator[Side]:
        port = free_port()
        command = [str(self.operator.python.parent / "mitmdump"), "-q", *options, "-p", str(port)]
        variables = {**self.operator.variables, "OUTLOOP_UPSTREAM_CA": str(self.upstream_ca)}
        start_s = time.perf_counter()
        with subprocess.Popen(command, env=variables, cwd=self.operator.folder, stdin=subprocess.DEVNULL) as process:
            try:
                _wait_until_up(process, port, self.upstream_port)
                yield replace(side, port=port, pid=process.pid, started_in_s=time.perf_counter() - start_s)
            finally:
                process.terminate()
                ended(process)


@contextlib.contextmanager
def raised(folder: Path) -> Iterator[Stand]:
    """Raise a stand in *folder*, with a home whose one key may be used."""
    authority, certificate, upstream_ca = trustme.CA(), folder / "upstream.pem", folder / "upstream-ca.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    authority.cert_pem.write_to_path(upstream_ca)
    operator = Operator(folder)
    with helper("bench.upstream", str(certificate)) as upstream, helper("bench.caller") as caller:
        assert upstream.stdout is not None
        port = int(upstream.stdout.readline())
        operator.write_policy(WORKSPACE, _POLICY.format(port=port))
        store_keys(operator, {SERVICE: "not-a-real-token-0123456789abcdef"}, WORKSPACE)
        yield Stand(operator, port, upstream_ca, Caller(caller))


def _wait_until_up(process: subprocess.Popen[bytes], port: int, upstream_port: int) -> None:
    """Return once a CONNECT is answered: a port that accepts may still be closed again, and opened on another interface."""
    request = f"CONNECT localhost:{upstream_port} HTTP/1.1\r\nHost: localhost:{upstream_port}\r\n\r\n".encode()
    end = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
            connection.sendall(request)
            if answer := connection.recv(4096):
                assert b" 200 " in answer, answer
                return
        if process.poll() is not None:
            raise AssertionError(f"{process.args!r} ended with exit code {process.returncode}")
        if time.monotonic() > end:
            raise AssertionError(f"{process.args!r} did not come up")
        time.sleep(0.005)
