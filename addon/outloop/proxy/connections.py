"""The hooks of connections: what a CONNECT is opened for, what is dialled, and under which name."""

from __future__ import annotations

import asyncio
import time

from mitmproxy import connection, ctx, http, tcp, tls, udp
from mitmproxy.proxy import server_hooks

from outloop.core.errors import MalformedRequest
from outloop.core.model import Reason
from outloop.core.scrub import without
from outloop.core.target import disagreement
from outloop.proxy import hardening
from outloop.proxy.admission import Refused, dialled, identify, lane_of, tunnel_address, workspace_of
from outloop.proxy.bridge import Bridge
from outloop.proxy.exchange import Connection, Exchange, Lane, Phase
from outloop.proxy.flows import names_of, refuse_unreadable
from outloop.proxy.patience import SWEEP_INTERVAL_S
from outloop.proxy.refusing import Refuser, closed, undialled
from outloop.proxy.watch import look_at_head, refuse_decoys, refuse_known_in_connect

TUNNEL_OPENED = 200


class Connections:
    """Answers for connections; requests on them are the addon's (proxy/addon.py)."""

    name = "outloop-connections"

    def __init__(self) -> None:
        self._bridge: Bridge | None = None
        self._keeping_time: asyncio.Task[None] | None = None

    def serve(self, bridge: Bridge) -> None:
        """Answer from now on, for *bridge*."""
        self._bridge = bridge

    def bridge(self) -> Bridge:
        """Return the running proxy's parts."""
        assert self._bridge is not None, "outloop is not running"
        return self._bridge

    def refuser(self) -> Refuser:
        """Return who refuses for these hooks."""
        return self.bridge().refuser

    async def running(self) -> None:
        """Start to keep the time of agents' connections."""
        self._keeping_time = asyncio.get_running_loop().create_task(self._keep_time(), name="outloop patience")

    def done(self) -> None:
        """Stop that."""
        if self._keeping_time is not None:
            self._keeping_time.cancel()

    async def client_connected(self, client: connection.Client) -> None:
        """Turn away who is not on this machine, where the proxy is for this machine alone; make room where too many wait."""
        if self.bridge().is_loopback and not hardening.is_loopback(client.peername[0]):
            client.error = "outloop: not from this machine"
            return
        patience = self.bridge().traffic.patience
        patience.touch(client.id, time.monotonic())
        if (longest := patience.surplus()) is not None:
            patience.left(longest)
            await _close(longest)

    @closed
    async def http_connect(self, flow: http.HTTPFlow) -> None:
        """Open a CONNECT for what it is for, or refuse it."""
        bridge = self.bridge()
        exchange = bridge.traffic.begin(flow, bridge.recorder.new_id())
        identity = identify(
            bridge.runtime, flow.request, tokenless_workspace=bridge.tokenless_workspace(flow.client_conn.peername)
        )
        exchange.agent = identity.agent or exchange.agent
        look_at_head(bridge.runtime, flow, exchange)
        flow.request.headers.pop("proxy-authorization", None)
        if identity.agent is None:
            refuse_stranger(bridge, flow, exchange, has_credentials=identity.has_credentials)
            return
        try:
            host, port = dialled(flow.request)
            if differing := disagreement(names_of(flow, in_tunnel=False), host, port, scheme=""):
                raise Refused(Reason.HOST_MISMATCH, f"{differing} names another host than the CONNECT")
        except MalformedRequest as error:
            raise Refused(Reason.MALFORMED_REQUEST, error.message) from None
        workspace = workspace_of(bridge.runtime, identity.agent)
        exchange.workspace = workspace
        lane = lane_of(workspace, host, port)
        refuse_decoys(exchange)
        refuse_known_in_connect(bridge.runtime, flow, exchange)
        if bridge.traffic.holds_too_many(identity.agent):
            exchange.retry_after_s = 1
            raise Refused(Reason.RATE_LIMITED, "this agent holds too many connections")
        opened = Connection(identity.agent, identity.token_hash, host, port, lane)
        if lane is Lane.TUNNELLED:
            opened.address = await tunnel_address(workspace, host, port)
            await bridge.recorder.allowed(exchange, None)
            if exchange.has_left:  # while the row was written: nothing is opened any more
                bridge.recorder.outcome(exchange, None, error="the agent left")
                return
            opened.exchange = exchange
        # mitmproxy dials, names and pools by this: from here on there is one spelling.
        flow.request.data.host = host
        bridge.traffic.end(flow)
        bridge.traffic.open(flow.client_conn.id, opened)

    @undialled
    def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Dial a tunnel's checked address, and give a bridged host's TLS the decided name.

        Only what was released gets here with a bridged host (proxy/wire.py); everything else is not dialled.
        """
        opened = self.bridge().traffic.connections.get(data.client.id)
        if opened is not None and opened.lane is Lane.TUNNELLED:
            data.server.address = opened.address
        elif data.server.address is not None and (opened is None or opened.lane is Lane.BRIDGED):
            data.server.sni = opened.host if opened else data.server.address[0].lower().removesuffix(".")
        else:
            data.server.error = "outloop: nothing was decided about this connection"

    def server_connect_error(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Record a tunnel that could not be opened."""
        opened = self.bridge().traffic.connections.get(data.client.id)
        if opened is not None and opened.exchange is not None:
            self.bridge().recorder.outcome(opened.exchange, TUNNEL_OPENED, Reason.UPSTREAM_FAILED, data.server.error)

    def tls_failed_client(self, data: tls.TlsData) -> None:
        """Record an agent that does not trust the certificate authority: without this it leaves no trace."""
        opened = self.bridge().traffic.connections.get(data.context.client.id)
        if opened is not None:
            agent = opened.agent
            self.bridge().runtime.event(
                "ca_distrusted", workspace=agent.workspace, agent=agent.name or None, host=opened.host, detail=data.conn.error
            )

    def tls_failed_server(self, data: tls.TlsData) -> None:
        """Tell an identity that was not verified from other failures."""
        if data.conn.error and "certificate verify failed" in data.conn.error.lower():
            self.bridge().traffic.untrusted.add(data.context.client.id)

    async def client_disconnected(self, client: connection.Client) -> None:
        """Close the rows of what was still under way, and give approvals back that were not used on the wire."""
        opened = self.bridge().traffic.connections.get(client.id)
        left = self.bridge().traffic.leave(client.id)
        unsent = [exchange for exchange in left if exchange.phase is Phase.RELEASED]
        for exchange in left:
            self.bridge().recorder.outcome(exchange, exchange.status, exchange.reason, exchange.error or "the agent left")
        if opened is not None and opened.exchange is not None:
            self.bridge().recorder.outcome(opened.exchange, TUNNEL_OPENED)
        for exchange in unsent:
            await self.bridge().approvals.give_back(exchange)

    async def _keep_time(self) -> None:
        traffic = self.bridge().traffic
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            for client_id in traffic.patience.overdue(time.monotonic()):
                traffic.patience.left(client_id)
                await _close(client_id)

    def tcp_start(self, flow: tcp.TCPFlow) -> None:
        """Close raw bytes outside a tunnel; a tunnel has no flow."""
        flow.kill()

    def udp_start(self, flow: udp.UDPFlow) -> None:
        """Close what comes over UDP."""
        flow.kill()


async def _close(client_id: str) -> None:
    """Close an agent's connection, as mitmproxy does with one that is idle."""
    handler = ctx.master.addons.get("proxyserver").connections.get(client_id)
    transport = handler.transports.get(handler.client) if handler else None
    if transport is not None and transport.handler is not None:
        await handler.on_timeout()


def refuse_stranger(bridge: Bridge, flow: http.HTTPFlow, exchange: Exchange, *, has_credentials: bool) -> None:
    """Refuse an agent that is not known, or ask it for credentials (RFC 9110 §11.7.1).

    git asks first without credentials, so that a bare challenge is an event and not a refusal with a row of its own.
    """
    if has_credentials:
        raise Refused(Reason.AGENT_UNKNOWN, "the proxy token is not one of this proxy's agents")
    try:
        refuse_unreadable(flow)
    except MalformedRequest as error:
        if flow.request.method != "CONNECT":
            raise Refused(Reason.MALFORMED_REQUEST, error.message) from None
    hidden = [*exchange.unrepeatable, *bridge.runtime.vault.scrub_sets()]
    bridge.runtime.event("challenge", host=without(hidden, exchange.said.host))
    exchange.id = ""
    bridge.refuser.answer(flow, exchange, Reason.AGENT_UNKNOWN, "this proxy needs an agent token")
