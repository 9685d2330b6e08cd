"""A collector of OpenTelemetry logs that reads what arrives with OpenTelemetry's own protobuf definitions."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest


@dataclass(frozen=True)
class Said:
    """An answer to give: `drops` breaks the connection off instead."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    drops: bool = False


@dataclass(frozen=True)
class Log:
    """One log record that was taken."""

    name: str
    severity: str
    body: str
    time_unix_nano: int
    attributes: Mapping[str, object]


@dataclass
class Arrivals:
    """What arrived: every request's path, headers and number of records, and the records of those answered with 2xx."""

    script: list[Said]
    requests: list[tuple[str, Mapping[str, str], int]] = field(default_factory=list)
    taken: list[Log] = field(default_factory=list)
    resource: Mapping[str, object] = field(default_factory=dict)
    port: int = 0

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ids(self) -> list[object]:
        """The audit ids of what was taken, in order."""
        return [log.attributes["outloop.audit_id"] for log in self.taken]


@contextmanager
def collector(script: Sequence[Said] = (), tls: ssl.SSLContext | None = None) -> Iterator[Arrivals]:
    """Run a collector that gives the answers of *script*, one a request, and then takes everything."""
    arrivals = Arrivals(list(script))
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = json_format.Parse(body, ExportLogsServiceRequest())
            logs = [_log(record) for each in request.resource_logs for scope in each.scope_logs for record in scope.log_records]
            with lock:
                said = arrivals.script.pop(0) if arrivals.script else Said()
                arrivals.requests.append((self.path, dict(self.headers.items()), len(logs)))
                arrivals.resource = _attributes(request.resource_logs[0].resource.attributes)
                if 200 <= said.status < 300 and not said.drops:
                    arrivals.taken += logs
            if said.drops:
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(said.status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(said.body)),
                **said.headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said.body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    arrivals.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield arrivals
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _log(record: object) -> Log:
    found = json_format.MessageToDict(record, preserving_proto_field_name=True)
    return Log(
        found.get("event_name", ""),
        found.get("severity_text", ""),
        found["body"]["string_value"],
        int(found["time_unix_nano"]),
        _attributes(record.attributes),  # type: ignore[attr-defined]
    )


def _attributes(pairs: object) -> dict[str, object]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}  # type: ignore[attr-defined]
