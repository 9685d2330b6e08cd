"""Which connections are open and which exchanges are under way; what the wire and the repairs ask for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from mitmproxy import http

from outloop.core.model import Agent
from outloop.core.scrub import scrub
from outloop.proxy import patience
from outloop.proxy.breaches import Breaches
from outloop.proxy.exchange import Connection, Exchange, Lane, Phase, Said
from outloop.proxy.patience import Patience


class Traffic:
    """Everything in flight, by identity. Nothing here outlives its agent's connection."""

    def __init__(self, breaches: Breaches) -> None:
        self._breaches = breaches
        self.connections: dict[str, Connection] = {}
        self.patience = Patience(self.is_busy, self.body_since_s)
        self.untrusted: set[str] = set()
        self.sockets: dict[str, Exchange] = {}
        self.controls: dict[str, Callable[[bytes], bytes]] = {}
        self._held: Counter[Agent] = Counter()
        self._by_flow: dict[str, Exchange] = {}
        self._by_request: dict[int, tuple[http.Request, Exchange]] = {}
        self._flows_of: dict[str, dict[str, http.HTTPFlow]] = {}

    def begin(self, flow: http.HTTPFlow, audit_id: str) -> Exchange:
        """Put a new exchange, with *audit_id*, in charge of *flow*."""
        request = flow.request
        is_connect = request.method == "CONNECT"
        said = Said(
            method=request.data.method.decode("utf-8", "backslashreplace"),
            scheme="" if is_connect else request.scheme,
            host=request.host,
            port=request.port,
            target="" if is_connect else request.data.path.decode("utf-8", "surrogateescape"),
        )
        exchange = Exchange(audit_id, Agent(""), said, time.monotonic())
        self._by_flow[flow.id] = exchange
        # Kept with the request itself, so that its identity is not reused while this entry stands.
        self._by_request[id(request)] = (request, exchange)
        self._flows_of.setdefault(flow.client_conn.id, {})[flow.id] = flow
        self.patience.touch(flow.client_conn.id, exchange.started_s)
        return exchange

    def of(self, flow: http.HTTPFlow) -> Exchange | None:
        """Return the exchange of *flow*."""
        return self._by_flow.get(flow.id)

    def end(self, flow: http.HTTPFlow) -> None:
        """Forget *flow*: its outcome is known."""
        self._by_flow.pop(flow.id, None)
        self._by_request.pop(id(flow.request), None)
        if self._flows_of.get(flow.client_conn.id, {}).pop(flow.id, None) is not None:
            self.patience.touch(flow.client_conn.id, time.monotonic())

    def leave(self, client_id: str) -> list[Exchange]:
        """Forget an agent's connection; return the exchanges that were still under way on it."""
        self.controls.pop(client_id, None)
        self.patience.left(client_id)
        if (opened := self.connections.pop(client_id, None)) is not None:
            self._held[opened.agent] -= 1
            if not self._held[opened.agent]:
                del self._held[opened.agent]
        self.untrusted.discard(client_id)
        flows = list(self._flows_of.pop(client_id, {}).values())
        left = [self._by_flow[flow.id] for flow in flows if flow.id in self._by_flow]
        for exchange in left:
            exchange.has_left = True
        for flow in flows:
            self._by_flow.pop(flow.id, None)
            self._by_request.pop(id(flow.request), None)
        return left

    def open(self, client_id: str, opened: Connection) -> None:
        """Take note of what an agent's connection is opened for."""
        self._held[opened.agent] += 1
        self.connections[client_id] = opened

    def holds_too_many(self, agent: Agent) -> bool:
        """Tell whether *agent* may not open one more connection."""
        return self._held[agent] >= patience.MAX_OF_AN_AGENT

    def is_busy(self, client_id: str) -> bool:
        """Tell whether a request is under way on an agent's connection, or a tunnel is."""
        opened = self.connections.get(client_id)
        if opened is not None and opened.lane is Lane.TUNNELLED:
            return True
        return any(each.answer is None and each.phase is not Phase.CLOSED for each in self._exchanges_of(client_id))

    def body_since_s(self, client_id: str) -> float | None:
        """Return since when the oldest of the bodies is collected that rules wait for on an agent's connection."""
        since_s = [each.body_since_s for each in self._exchanges_of(client_id) if each.body_since_s is not None]
        return min(since_s, default=None)

    def _exchanges_of(self, client_id: str) -> Iterator[Exchange]:
        return (self._by_flow[name] for name in self._flows_of.get(client_id, ()) if name in self._by_flow)

    def exchange_of(self, request: http.Request) -> Exchange | None:
        """Return the exchange of *request*, by identity (wire.Gate)."""
        found = self._by_request.get(id(request))
        return found[1] if found and found[0] is request else None

    def answer_for(self, flow: http.HTTPFlow) -> http.Response | None:
        """Return the refusal to send in place of mitmproxy's own error page (desk.Desk)."""
        exchange = self.of(flow)
        return exchange.answer if exchange else None

    def is_refused(self, flow: http.HTTPFlow) -> bool:
        """Tell whether the rest of the request's body is not wanted (desk.Desk)."""
        exchange = self.of(flow)
        return exchange is None or exchange.answer is not None

    def body_limit(self, flow: http.HTTPFlow) -> int | None:
        """Return how many bytes a rule may read of the body being collected (desk.Desk)."""
        exchange = self.of(flow)
        if exchange is None or exchange.phase is not Phase.AWAITING_BODY or exchange.service is None:
            return None
        return exchange.service.body_limit

    def drop(self, flow: http.HTTPFlow, data: bytes) -> None:
        """Have what is dropped of a body looked at (desk.Desk)."""
        exchange = self.of(flow)
        if exchange is not None and exchange.dropped is not None:
            exchange.dropped(data)

    def overflow(self, flow: http.HTTPFlow) -> None:
        """Take note that the body went over the limit (desk.Desk)."""
        exchange = self.of(flow)
        if exchange is not None:
            exchange.body_overflow = True

    def leaving(self, flow: http.HTTPFlow) -> None:
        """Take note that the agent gave the request up (desk.Desk)."""
        exchange = self.of(flow)
        if exchange is not None:
            exchange.has_left = True

    def breach(self, client_id: str, what: str) -> str:
        """Leave an event, and return *what* without the agent's bytes (desk.Desk)."""
        return self._breaches.note(self.connections.get(client_id), what, time.monotonic())

    def tunnel_of(self, client_id: str) -> Exchange | None:
        """Return the exchange of the tunnel that an agent's connection was opened for (desk.Desk)."""
        opened = self.connections.get(client_id)
        return opened.exchange if opened else None

    def stream_of(self, flow: http.HTTPFlow) -> Callable[[bytes], Iterator[bytes]] | None:
        """Return what the response's body streams through, None where it is collected (desk.Desk)."""
        exchange = self.of(flow)
        return exchange.stream if exchange else None

    def is_cut(self, flow: http.HTTPFlow) -> bool:
        """Tell whether an upload under way was cut off (desk.Desk)."""
        exchange = self.of(flow)
        if exchange is None:
            return flow.response is None  # an upstream may answer, which ends the exchange, before the upload is whole
        return exchange.is_cut

    def search_control(self, client_id: str, payload: bytes) -> bytes:
        """Return what may leave of the payload of an agent's control frame (desk.Desk)."""
        search = self.controls.get(client_id)
        return search(payload) if search is not None else b""

    def clean_control(self, server_id: str, payload: bytes) -> bytes:
        """Return the payload of a control frame without any secret; without anything when it held one (desk.Desk)."""
        exchange = self.sockets.get(server_id)
        if exchange is None or exchange.opened is None:
            return b""
        clean, hits = scrub(exchange.opened.scrub_set, payload)
        exchange.scrubbed += hits
        return b"" if hits else clean
