"""The real proxy in a process of its own, and a real curl that goes through it.

Used so:

    with running_proxy(operator, {"api.calendly.com": upstream.port}, upstream_ca=bundle) as proxy:
        answer = proxy.curl("https://api.calendly.com/users/me")
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.operators import ADDON, PATIENCE_S, Operator

REROUTE = ADDON / "outloop" / "attacks" / "reroute.py"


@dataclass(frozen=True, slots=True)
class Answer:
    """What curl got. `status` is 0 where no response came.

    Of a CONNECT that was refused, `status` and `headers` are those of the refusal, and the body is not to be had.
    """

    exit_code: int
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    stderr: str

    def header(self, name: str) -> str | None:
        """Return the header's first value."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def json(self) -> dict[str, object]:
        """Return the body as a JSON object."""
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


@dataclass(frozen=True)
class Proxy:
    """A running proxy."""

    operator: Operator
    port: int
    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def log(self) -> str:
        """Everything it printed so far."""
        return self.log_file.read_text(errors="replace")

    def url(self, agent: tuple[str, str] | None = None) -> str:
        """Return the proxy's URL, for the *agent* (workspace, token) or for one without a token."""
        user = f"{agent[0]}:{agent[1]}@" if agent else ""
        return f"http://{user}127.0.0.1:{self.port}"

    def agent_variables(self, agent: tuple[str, str] | None = None) -> dict[str, str]:
        """Return the environment of an agent's program: PATH, an empty HOME, the proxy, the authority. Nothing else."""
        url, certificate = self.url(agent), str(self.operator.certificate)
        proxies = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), url)
        authorities = dict.fromkeys(("CURL_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"), certificate)
        return {"PATH": os.environ["PATH"], "HOME": str(self.operator.folder), "LANG": "C.UTF-8", **proxies, **authorities}

    def curl(self, url: str, *arguments: str, agent: tuple[str, str] | None = None) -> Answer:
        """Run a real curl as an agent would, with *arguments* added."""
        return curl(url, *arguments, environ=self.agent_variables(agent))

    def wait_until_up(self) -> None:
        """Return once it answers. Raises AssertionError, with what it printed."""
        end = time.monotonic() + PATIENCE_S
        while True:
            # mitmproxy listens before it has loaded the addon: only an answer tells that this is done.
            with (
                contextlib.suppress(ConnectionError),
                socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as probe,
            ):
                probe.sendall(b"GET http://outloop.internal/ready HTTP/1.1\r\nHost: outloop.internal\r\n\r\n")
                if probe.recv(1):
                    return
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self.process.wait(0.02)
                raise AssertionError(f"the proxy ended with exit code {code}:\n{self.log}")
            if time.monotonic() > end:
                raise AssertionError(f"the proxy did not come up:\n{self.log}")

    def wait_for_log(self, text: str) -> None:
        """Return once it has printed *text*. Raises TimeoutError."""
        end = time.monotonic() + PATIENCE_S
        while text not in self.log:
            if time.monotonic() > end:
                raise TimeoutError(f"the proxy did not print {text!r}:\n{self.log}")
            time.sleep(0.02)

    def stop(self) -> int:
        """Ask it to end, wait until it has, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(PATIENCE_S)


@contextlib.contextmanager
def running_proxy(
    operator: Operator,
    routes: Mapping[str, int],
    *,
    upstream_ca: Path | None = None,
    tool: str = "mitmdump",
    options: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    is_awaited: bool = True,
) -> Iterator[Proxy]:
    """Run *tool* (mitmdump, mitmweb or mitmproxy) with the addon on a free port until the block ends.

    *routes* maps ``host`` (port 443) or ``host:port`` to a port on 127.0.0.1. *options* are added to the command line,
    *environ* to the operator's variables. Raises AssertionError, with what it printed, when it does not come up; unless
    *is_awaited*, that is for `wait_until_up` to say.
    """
    variables = {**operator.variables, "PYTHONUNBUFFERED": "1", **(environ or {})}
    if upstream_ca is not None:
        variables["OUTLOOP_UPSTREAM_CA"] = str(upstream_ca)
    port = free_port()
    command = [str(operator.python.parent / tool), "-s", str(ADDON / "outloop.py"), "-s", str(REROUTE)]
    command += ["--listen-host", "127.0.0.1", "--listen-port", str(port)]
    for host, to in routes.items():
        command += ["--set", f"reroute={host if ':' in host else f'{host}:443'}=127.0.0.1:{to}"]
    if tool == "mitmweb":
        command += ["--no-web-open-browser", "--web-port", str(free_port())]
    start = _start_on_terminal if tool == "mitmproxy" else _start
    process, log_file = start([*command, *options], operator, variables)
    try:
        proxy = Proxy(operator, port, process, log_file)
        if is_awaited:
            proxy.wait_until_up()
        yield proxy
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(PATIENCE_S)


def free_port() -> int:
    """Return a port on 127.0.0.1 that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


def curl(url: str, *arguments: str, environ: Mapping[str, str]) -> Answer:
    """Run a real curl with nothing but *environ*."""
    with tempfile.TemporaryDirectory() as folder:
        head, body = Path(folder, "head"), Path(folder, "body")
        command = ["curl", "-q", "-sS", "--max-time", str(PATIENCE_S), "-D", str(head), "-o", str(body), *arguments, url]
        done = subprocess.run(command, capture_output=True, env=dict(environ), check=False)
        blocks = head.read_bytes().decode("latin-1").split("\r\n\r\n") if head.exists() else []
        received = body.read_bytes() if body.exists() else b""
    # One block each for CONNECT, interim responses and the response: the last is what the agent takes for its answer.
    first, *lines = next((block for block in reversed(blocks) if block), "HTTP/1.1 0").split("\r\n")
    headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
    return Answer(done.returncode, int(first.split(" ")[1]), headers, received, done.stderr.decode(errors="replace"))


def _start(command: Sequence[str], operator: Operator, variables: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], Path]:
    descriptor, name = tempfile.mkstemp(prefix="proxy-", suffix=".log", dir=operator.folder)
    with os.fdopen(descriptor, "wb") as log:
        process = subprocess.Popen(
            command, env=dict(variables), cwd=operator.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    return process, Path(name)


def _start_on_terminal(
    command: Sequence[str], operator: Operator, variables: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], Path]:
    """mitmproxy's console wants a terminal to draw on: what it draws is its log."""
    screen, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    descriptor, name = tempfile.mkstemp(prefix="proxy-", suffix=".log", dir=operator.folder)
    process = subprocess.Popen(
        command, env={"TERM": "xterm", **variables}, cwd=operator.folder, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)

    def copy() -> None:
        # Linux answers EIO once the last holder of the terminal's other end is gone.
        with os.fdopen(descriptor, "wb", buffering=0) as log, contextlib.suppress(OSError):
            while drawn := os.read(screen, 65536):
                log.write(drawn)
        os.close(screen)

    threading.Thread(target=copy, name="screen", daemon=True).start()
    return process, Path(name)
