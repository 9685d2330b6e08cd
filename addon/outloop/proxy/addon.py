"""The addon: mitmproxy's hooks for requests, each behind the one fail-closed wrapper.

mitmproxy logs an exception from a hook and goes on with the traffic. Here whatever a hook raises refuses the request, and what
no hook released does not pass the wire (proxy/wire.py).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import struct
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path

from mitmproxy import ctx, exceptions, http
from mitmproxy.addonmanager import Loader

from outloop.core.errors import HardeningError, MalformedRequest
from outloop.core.model import INTERNAL_HOST, Reason
from outloop.core.target import disagreement
from outloop.proxy import hardening, wire
from outloop.proxy.admission import Refused, identify, is_still_known
from outloop.proxy.bridge import Bridge
from outloop.proxy.connections import Connections, refuse_stranger
from outloop.proxy.exchange import Connection, Exchange, Lane, Phase
from outloop.proxy.flows import answering, names_of, plain_response, refuse_unreadable
from outloop.proxy.refusing import Refuser, closed
from outloop.proxy.responses import clean_whole, cleaned_head, content_coding, is_small, stream
from outloop.proxy.sockets import Sockets
from outloop.proxy.startup import exiting, listen_as_told, open_bridge, settle_options
from outloop.proxy.watch import look_at_head, look_at_trailers, refuse_decoys, watched

MAX_RETRY_AFTER_S = 3600

logger = logging.getLogger("mitmproxy.outloop")


class Outloop:
    """What `mitmdump -s addon/outloop.py` loads. *script* is that file; None under a launcher, where nothing watches it."""

    name = "outloop"

    def __init__(self, script: Path | None = None) -> None:
        self._script = script
        self._bridge: Bridge | None = None
        self._undo_logs: Callable[[], None] | None = None
        self._connections = Connections()
        self._sockets = Sockets(_abort)
        self.addons = [self._connections, self._sockets]

    # Life

    def load(self, loader: Loader) -> None:
        """Add Outloop's options, and take the script out of mitmproxy's hands."""
        loader.add_option("outloop_home", str, "", "Where Outloop keeps its files (default: OUTLOOP_HOME or ~/.outloop).")
        loader.add_option("outloop_policies", str, "", "Folder of workspace policies (default: policies/ in the home).")
        loader.add_option("outloop_workspace", str, "", "The workspace that agents without a token act for, on loopback.")
        wire.close_gate()
        if self._script is not None:
            with exiting():
                hardening.stop_watching(ctx.master.addons.get("scriptloader"), str(self._script))

    def configure(self, updated: set[str]) -> None:
        """Check what must hold, and open everything at the first call. Raises OptionsError, which rolls a change back."""
        if self._bridge is None:
            with exiting():
                self._bridge = bridge = open_bridge()
                settle_options(bridge.runtime.home)
                self._undo_logs = hardening.filter_logs(bridge.runtime.vault.clean)
                self._connections.serve(bridge)
                self._sockets.serve(bridge)
            return
        try:
            hardening.check_options(ctx.options)
        except HardeningError as error:
            raise exceptions.OptionsError(f"outloop: {error.message}") from None

    async def running(self) -> None:
        """Start what goes on beside the requests, and say where the proxy listens."""
        runtime = self.bridge().runtime
        await listen_as_told(self.bridge())
        runtime.watch(self._script)
        # What has been made so far lives as long as the process: the collector need not walk it again.
        gc.collect()
        gc.freeze()
        for host, port, *_ in ctx.master.addons.get("proxyserver").listen_addrs()[:1]:
            runtime.state.register_proxy(os.getpid(), host, port, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        logger.info("outloop: ready; workspaces: %s", ", ".join(sorted(runtime.workspaces)) or "none yet")

    def done(self) -> None:
        """Let nothing pass any more, and write what is still to be written."""
        wire.close_gate()
        if self._bridge is not None:
            self._bridge.runtime.close()
        if self._undo_logs:
            self._undo_logs()

    def bridge(self) -> Bridge:
        """Return the running proxy's parts."""
        assert self._bridge is not None, "outloop is not running"
        return self._bridge

    def refuser(self) -> Refuser:
        """Return who refuses for these hooks."""
        return self.bridge().refuser

    # Requests

    @closed
    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Decide on the head: a streamed body has left before `request` fires."""
        bridge = self.bridge()
        exchange = bridge.traffic.begin(flow, bridge.recorder.new_id())
        opened = bridge.traffic.connections.get(flow.client_conn.id)
        tokenless = bridge.tokenless_workspace(flow.client_conn.peername)
        if opened is None:
            identity = identify(bridge.runtime, flow.request, tokenless_workspace=tokenless)
            exchange.agent = identity.agent or exchange.agent
            look_at_head(bridge.runtime, flow, exchange)
            if identity.agent is None:
                refuse_stranger(bridge, flow, exchange, has_credentials=identity.has_credentials)
                return
        else:
            exchange.agent = opened.agent
            look_at_head(bridge.runtime, flow, exchange)
            if not is_still_known(bridge.runtime, opened.agent, opened.token_hash, tokenless_workspace=tokenless):
                raise Refused(Reason.AGENT_UNKNOWN, "this agent's token was revoked")
        flow.request.headers.pop("proxy-authorization", None)
        if _names_internal(flow.request, opened):
            await self._answer_internal(flow, exchange, in_tunnel=opened is not None)
            return
        await bridge.requests.consider(flow, exchange, in_tunnel=opened is not None)
        if exchange.phase is Phase.RELEASED:
            client_id = flow.client_conn.id
            flow.request.stream = watched(bridge.runtime, exchange, abort=lambda why: _abort(client_id, why))

    @closed
    async def request(self, flow: http.HTTPFlow) -> None:
        """Decide on a body that a rule had to read; drop trailers, which no rule has seen."""
        exchange = self.bridge().traffic.of(flow)
        if exchange is not None and flow.request.trailers:
            look_at_trailers(self.bridge().runtime, exchange, flow.request.trailers)
        flow.request.trailers = None
        if exchange is None:
            if flow.response is not None:
                return  # the upstream answered before the upload was whole
            raise Refused(Reason.INTERNAL_ERROR, "Outloop does not know this request")
        if exchange.phase is Phase.AWAITING_BODY:
            await self.bridge().requests.consider_body(flow, exchange)

    async def _answer_internal(self, flow: http.HTTPFlow, exchange: Exchange, *, in_tunnel: bool) -> None:
        try:
            refuse_unreadable(flow)
            request = flow.request
            if differing := disagreement(names_of(flow, in_tunnel=in_tunnel), INTERNAL_HOST, request.port, request.scheme):
                raise Refused(Reason.HOST_MISMATCH, f"{differing} names another host than {INTERNAL_HOST}")
        except MalformedRequest as error:
            raise Refused(Reason.MALFORMED_REQUEST, error.message) from None
        refuse_decoys(exchange)
        code, body, fields = await self.bridge().pages.answer(exchange.agent, flow.request)
        exchange.answer = answering(flow.request, plain_response(code, body, fields))
        exchange.phase = Phase.CLOSED
        flow.response = exchange.answer

    # Responses

    @closed
    async def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Clean the head, and choose how the body is cleaned."""
        exchange = self.bridge().traffic.of(flow)
        if flow.response is None or exchange is None or exchange.answer is not None:
            return
        upstream = flow.response
        exchange.answered_s = time.monotonic()
        exchange.status = upstream.status_code
        flow.response = cleaned_head(exchange, upstream)
        exchange.is_coded = bool(content_coding(upstream))
        self._note_status(exchange, upstream)
        if not is_small(flow.request, upstream):
            client_id = flow.client_conn.id
            is_chunked = flow.request.http_version == "HTTP/1.1"
            stream(exchange, flow.response, chunked=is_chunked, abort=lambda why: _abort(client_id, why))

    @closed
    async def response(self, flow: http.HTTPFlow) -> None:
        """Clean a collected body, and record the outcome."""
        exchange = self.bridge().traffic.of(flow)
        if exchange is None and not flow.client_conn.connected:
            return  # the agent left, which closed its rows; nothing can reach it any more
        if flow.response is None or exchange is None:
            raise Refused(Reason.INTERNAL_ERROR, "Outloop does not know this response")
        flow.response.trailers = None
        if exchange.answer is None and not flow.response.stream:
            if exchange.is_coded:
                await asyncio.to_thread(clean_whole, exchange, flow.response)
            else:
                clean_whole(exchange, flow.response)
        if flow.websocket is not None:
            return  # its outcome comes with its end (proxy/sockets.py)
        self.bridge().recorder.outcome(exchange, flow.response.status_code, exchange.reason, exchange.error)
        self.bridge().traffic.end(flow)

    @closed
    async def error(self, flow: http.HTTPFlow) -> None:
        """Answer for an upstream that gave no usable answer, and record it."""
        exchange = self.bridge().traffic.of(flow)
        if exchange is None or exchange.answer is not None:
            return
        if exchange.phase is Phase.AWAITING_BODY:
            raise Refused(Reason.MALFORMED_REQUEST, "the body broke off, or its framing is not valid")
        was_released = exchange.phase is Phase.RELEASED
        said = str(flow.error.msg if flow.error else "")
        if not exchange.has_left:  # mitmproxy speaks of a client on either side
            said = said.replace("stream reset by client", "stream reset by the upstream")
        exchange.error = exchange.error or _cause(self.bridge().runtime.vault.clean(said))
        if exchange.phase in (Phase.RELEASED, Phase.SENT) and not exchange.has_left:
            is_untrusted = flow.client_conn.id in self.bridge().traffic.untrusted
            exchange.reason = exchange.reason or (Reason.UPSTREAM_UNTRUSTED if is_untrusted else Reason.UPSTREAM_FAILED)
            if flow.response is None or not flow.response.stream:  # its head has not left
                self.refuser().answer(flow, exchange, exchange.reason, f"{exchange.said.host}: {exchange.error}")
        status = flow.response.status_code if flow.response else None
        self.bridge().recorder.outcome(exchange, status, exchange.reason, exchange.error)
        if was_released:
            await self.bridge().approvals.give_back(exchange)
        if exchange.has_left:
            self.bridge().traffic.end(flow)

    def _note_status(self, exchange: Exchange, upstream: http.Response) -> None:
        assert exchange.workspace is not None and exchange.service is not None
        runtime, workspace, service = self.bridge().runtime, exchange.workspace.name, exchange.service
        if upstream.status_code == 401:
            exchange.reason = Reason.KEY_REJECTED
            if exchange.token is not None:
                runtime.vault.tokens.reject((workspace, service.key), exchange.token, time.time())
            else:
                runtime.vault.forget(workspace, service.key)
        elif upstream.status_code == 429 and (wait_s := retry_after_s(upstream.headers.get("retry-after", ""))):
            runtime.state.cool_down(workspace, service.name, time.time() + wait_s)


def _abort(client_id: str, why: str) -> None:
    logger.error("outloop: an agent's connection was cut: %s", why)
    handler = ctx.master.addons.get("proxyserver").connections.get(client_id)
    transport = handler.transports.get(handler.client) if handler else None
    if transport is not None and transport.writer is not None:
        # A reset, not an orderly end: an agent that reads until the connection closes would take the cut body for whole.
        transport.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.writer.transport.abort()


def retry_after_s(value: str) -> int:
    """Return the seconds that a Retry-After field asks for (RFC 9110 §10.2.3), at most an hour; 0 where it asks for none."""
    if value.isascii() and value.isdigit():
        return min(int(value), MAX_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0
    return max(0, min(int(moment - time.time()) + 1, MAX_RETRY_AFTER_S))


def _names_internal(request: http.Request, opened: Connection | None) -> bool:
    if opened is not None:
        return opened.lane is Lane.INTERNAL
    return request.host.lower() == INTERNAL_HOST


def _cause(message: str) -> str:
    """Return mitmproxy's message without what it quotes of the upstream's bytes."""
    for quoting in ("unexpected server response", "Cannot parse HTTP response", "Received "):
        if message.startswith(quoting):
            return "the upstream's answer is not valid HTTP"
    return message.partition(": <")[0]
