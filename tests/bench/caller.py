"""Who calls, a process of its own: blocking sockets on threads, a tenth of what a proxy spends on the same request.

``python -m bench.caller`` takes jobs as lines of JSON, answers each with one, and ends when its standard input does.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace

from bench.processes import cpu_s

PATIENCE_S = 60.0
BUFFER_BYTES = 256 * 1024
MIB = 1024 * 1024

Task = Callable[[], list[float]]  # does the work, and returns what each piece of it took, in ms

_HEAD = re.compile(rb"HTTP/1\.1 200 .*?\r\n\r\n", re.DOTALL)
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_EVENT = re.compile(rb"data: (\d+)\n\n")
_CHUNK_FRAMING = re.compile(rb"(?:\A|\r\n)[0-9A-Fa-f]+\r\n")


@dataclass(frozen=True, slots=True)
class Job:
    """`requests` in all, over `connections` at once, to `upstream_port` through `proxy_port` (None: directly).

    `kind` is keep-alive, one-shot, download (of `requests` MiB) or events (`requests` of them). `authority` is the file that the
    answering certificate is checked against; `pid` is whose processor time is taken.
    """

    kind: str
    upstream_port: int
    proxy_port: int | None
    authority: str
    pid: int | None = None
    connections: int = 1
    requests: int = 1


@dataclass(frozen=True, slots=True)
class Result:
    """What a job took: of it all, of the proxy's processor, and of each request (of each event: since it left the upstream)."""

    wall_s: float
    cpu_s: float
    latencies_ms: tuple[float, ...]


class Caller:
    """The other end of the process's pipes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, job: Job) -> Result:
        """Do *job*. Raises AssertionError, with what the process printed, when an answer is not the expected one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(asdict(job)), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, f"the caller ended at {job}"
        fields = json.loads(answer)
        return Result(fields["wall_s"], fields["cpu_s"], tuple(fields["latencies_ms"]))


class Connection:
    """A TLS connection to the upstream, through the proxy where the job names one."""

    def __init__(self, job: Job, context: ssl.SSLContext) -> None:
        plain = socket.create_connection(("127.0.0.1", job.proxy_port or job.upstream_port), PATIENCE_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._authority = f"localhost:{job.upstream_port}"
        if job.proxy_port is not None:
            plain.sendall(f"CONNECT {self._authority} HTTP/1.1\r\nHost: {self._authority}\r\n\r\n".encode())
            self._socket = plain
            self.read_head()
        self._socket = context.wrap_socket(plain, server_hostname="localhost")

    def ask(self, path: str, fields: str = "") -> None:
        """Send a GET."""
        request = f"GET {path} HTTP/1.1\r\nHost: {self._authority}\r\nUser-Agent: bench\r\nAccept: */*\r\n{fields}\r\n"
        self._socket.sendall(request.encode())

    def read_head(self) -> tuple[bytes, bytes]:
        """Return the head of a 200, and what came of the body with it."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.read()
        found = _HEAD.match(data)
        assert found, data[:2000]
        return found[0], data[found.end() :]

    def read(self) -> bytes:
        """Return the next bytes, of which there must be some."""
        data = self._socket.recv(BUFFER_BYTES)
        assert data, "the connection was closed early"
        return data

    def get(self) -> None:
        """Get the small reply, whole."""
        self.ask("/json")
        head, body = self.read_head()
        declared = _LENGTH.search(head)
        assert declared, head
        while len(body) < int(declared[1]):
            body += self.read()

    def count_to_end(self) -> int:
        """Return how many bytes come until the other side closes."""
        buffer = bytearray(BUFFER_BYTES)
        count = 0
        while read := self._socket.recv_into(buffer):
            count += read
        return count

    def close(self) -> None:
        """Close it, as curl does: at once."""
        self._socket.close()


def do(job: Job) -> Result:
    """Do *job*, one thread for each connection. Raises AssertionError for an answer that is not the expected one."""
    context = ssl.create_default_context(cafile=job.authority)
    share = replace(job, requests=job.requests // job.connections)
    prepare = {"keep-alive": _keep_alive, "one-shot": _one_shot, "download": _download, "events": _events}[job.kind]
    with ExitStack() as stack:
        tasks = [prepare(share, context, stack) for _ in range(job.connections)]
        start_cpu_s = cpu_s(job.pid) if job.pid else 0.0
        start_s = time.perf_counter()
        with ThreadPoolExecutor(job.connections) as pool:
            latencies_ms = [latency_ms for done in list(pool.map(lambda task: task(), tasks)) for latency_ms in done]
        wall_s = time.perf_counter() - start_s
        return Result(wall_s, cpu_s(job.pid) - start_cpu_s if job.pid else 0.0, tuple(latencies_ms))


def _keep_alive(job: Job, context: ssl.SSLContext, stack: ExitStack) -> Task:
    """The connection, and one request that is not counted, come before the clock starts."""
    connection = stack.enter_context(closing(Connection(job, context)))
    connection.get()
    return lambda: [_timed(connection.get) for _ in range(job.requests)]


def _one_shot(job: Job, context: ssl.SSLContext, _: ExitStack) -> Task:
    def get() -> None:
        with closing(Connection(job, context)) as connection:
            connection.get()

    return lambda: [_timed(get) for _ in range(job.requests)]


def _download(job: Job, context: ssl.SSLContext, stack: ExitStack) -> Task:
    connection = stack.enter_context(closing(Connection(job, context)))

    def download() -> None:
        connection.ask(f"/download/{job.requests}", "Connection: close\r\n")
        _, body = connection.read_head()
        assert len(body) + connection.count_to_end() >= job.requests * MIB, "the download was cut short"

    return lambda: [_timed(download)]


def _events(job: Job, context: ssl.SSLContext, stack: ExitStack) -> Task:
    connection = stack.enter_context(closing(Connection(job, context)))
    connection.get()

    def watch() -> list[float]:
        connection.ask(f"/events/{job.requests}")
        _, data = connection.read_head()
        delays_ms: list[float] = []
        while True:
            now_ns = time.monotonic_ns()
            arrived = _EVENT.findall(_CHUNK_FRAMING.sub(b"", data))
            delays_ms += [(now_ns - int(left_ns)) / 1e6 for left_ns in arrived[len(delays_ms) :]]
            if len(delays_ms) == job.requests:
                return delays_ms
            data += connection.read()

    return watch


def _timed(action: Callable[[], None]) -> float:
    start_s = time.perf_counter()
    action()
    return (time.perf_counter() - start_s) * 1000


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(asdict(do(Job(**json.loads(line))))), flush=True)
