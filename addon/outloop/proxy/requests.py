"""The way of one request to its decision: names agree, one canonical form, policy, key, record; then it is released."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from mitmproxy import http

from outloop.core.approvals import Approval
from outloop.core.auth import Edits
from outloop.core.decide import decide, service_for, wants_body
from outloop.core.errors import MalformedRequest
from outloop.core.model import Decision, Effect, Reason, Request, Service, Standing, Workspace
from outloop.core.outgoing import Outgoing, may_override, refuse_form_override, stripped
from outloop.core.paths import CanonicalPath, canonical_path, split_target
from outloop.core.target import disagreement
from outloop.proxy.admission import Refused, dialled, workspace_of
from outloop.proxy.approvals import AgentLeft, Approvals
from outloop.proxy.credentials import Credentials, known
from outloop.proxy.exchange import Exchange, Phase, Release
from outloop.proxy.flows import field_values, is_websocket, names_of, raw_target, refuse_unreadable
from outloop.proxy.recording import Recorder
from outloop.proxy.runtime import Runtime
from outloop.proxy.vault import Opened
from outloop.proxy.watch import look_at_body, refuse_decoys

DECIDED_ON_LOOP_BYTES = 64 * 1024
WATCHED_BYTES = 64 * 1024  # a body up to this is looked at before any of it leaves; a longer one as it passes


class Requests:
    """Decides requests. Every method raises Refused, or what the fail-closed wrapper turns into a refusal."""

    def __init__(self, runtime: Runtime, recorder: Recorder, approvals: Approvals, credentials: Credentials) -> None:
        self._runtime = runtime
        self._recorder = recorder
        self._approvals = approvals
        self._credentials = credentials

    async def consider(self, flow: http.HTTPFlow, exchange: Exchange, *, in_tunnel: bool) -> None:
        """Decide on the head of *flow*, and release it, unless a rule has to read its body first."""
        try:
            refuse_unreadable(flow)
            self._read_target(flow, exchange, in_tunnel=in_tunnel)
        except MalformedRequest as error:
            raise Refused(Reason.MALFORMED_REQUEST, error.message) from None
        refuse_decoys(exchange)
        request, service = known(exchange)
        declared = _declared_length(flow.request)
        is_read = wants_body(request, service)
        if declared == 0:
            exchange.request = _with_body(request, b"")
            await self._settle(flow, exchange)
            return
        if not is_read:
            decision = await self._decide(exchange)
            if decision.effect is Effect.DENY:  # whatever the body says: it is not waited for
                raise Refused(decision.reason, decision.detail)
            is_read = may_override(request.method, request.content_type) or service.auth.signs_body(request.host)
        if not is_read and (declared is None or declared > WATCHED_BYTES):
            await self._settle(flow, exchange)
        elif declared is not None and declared > service.body_limit:
            raise _too_large(service, request)
        else:
            exchange.phase = Phase.AWAITING_BODY
            exchange.body_since_s = time.monotonic()

    async def consider_body(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """Decide *flow*, whose body has come in whole or went over the limit."""
        request, service = known(exchange)
        exchange.body_since_s = None
        if exchange.body_overflow:
            raise _too_large(service, request)
        body = flow.request.raw_content or b""
        await look_at_body(self._runtime, exchange, body)
        if may_override(request.method, request.content_type):
            try:
                refuse_form_override(body)
            except MalformedRequest as error:
                raise Refused(Reason.MALFORMED_REQUEST, error.message) from None
        refuse_decoys(exchange)
        exchange.request = _with_body(request, body)
        await self._settle(flow, exchange)

    def _read_target(self, flow: http.HTTPFlow, exchange: Exchange, *, in_tunnel: bool) -> None:
        host, port = dialled(flow.request)
        flow.request.data.host = host
        workspace = workspace_of(self._runtime, exchange.agent)
        exchange.workspace = workspace
        claimants = workspace.claims.get(host, ())
        raw_path, raw_query = split_target(raw_target(flow.request))
        path = canonical_path(raw_path, keep_encoded_slash=any(service.encoded_slash for service in claimants))
        scheme = flow.request.scheme
        if differing := disagreement(names_of(flow, in_tunnel=in_tunnel), host, port, scheme):
            raise Refused(Reason.HOST_MISMATCH, f"{differing} names another host than the one being dialled")
        request = _request(flow.request, host, port, path)
        if not claimants:
            raise Refused(Reason.HOST_NOT_ALLOWED, _unclaimed_detail(workspace, host))
        if scheme != "https":
            raise Refused(Reason.CLEARTEXT_REFUSED, f"{host} is reached over https only")
        service = service_for(request, workspace)
        if service is None:
            decision = decide(request, workspace, Standing())
            raise Refused(decision.reason, decision.detail)
        exchange.service = service
        outgoing = stripped(flow.request.data.headers.fields, raw_query, service.auth, is_websocket=request.method == "WEBSOCKET")
        exchange.stripped = outgoing.stripped
        exchange.outgoing = outgoing
        exchange.request = _request(flow.request, host, port, path, outgoing)

    async def _settle(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """Decide *exchange*, hold it where a rule asks for that, and release it."""
        decision = await self._decide(exchange)
        try:
            if decision.effect is Effect.ASK:
                await self._send(exchange, decision, await self._approve(exchange))
            elif decision.effect is Effect.ALLOW:
                await self._send(exchange, decision, None)
            else:
                raise Refused(decision.reason, decision.detail)
        except AgentLeft:
            await self._recorder.abandoned(exchange, Reason.APPROVAL_PENDING, self._peek(exchange))
            flow.kill()

    async def _send(self, exchange: Exchange, decision: Decision, approval: Approval | None) -> None:
        """Release *exchange*, using up its *approval*, which is given back when it is not released after all."""
        # By what is in memory already, before a limit is spent: by what a refusal costs an agent could tell its kind.
        if (in_memory := self._peek(exchange)) is not None:
            await self._credentials.search(exchange, in_memory)
        await self._take(exchange, decision)
        opened, edits = await self._credentials.open(exchange)
        try:
            if approval is not None:
                await self._approvals.use(exchange, approval)
            await self._recorder.allowed(exchange, opened)
            if exchange.has_left:  # while the row was written: nobody else notes what became of it
                raise AgentLeft
            if edits is None:
                edits = await self._credentials.mint(exchange)
            self._runtime.vault.remember(edits.signatures)
            _release(exchange, edits)
        finally:
            if exchange.phase is not Phase.RELEASED:
                await self._approvals.give_back(exchange)

    async def _decide(self, exchange: Exchange) -> Decision:
        """Decide by the policy that *exchange* began with, and by how its key stands at this moment."""
        request, service = known(exchange)
        workspace = exchange.workspace
        assert workspace is not None
        state = self._runtime.state.snapshot()
        record = state.keys.get((workspace.name, service.key))
        now = time.time()
        cooldown = state.cooldowns.get((workspace.name, service.name), 0.0)
        standing = Standing(
            access_on=record is None or record.runtime_access,
            retry_after_s=max(1, int(cooldown - now)) if cooldown > now else None,
        )
        if request.body and len(request.body) > DECIDED_ON_LOOP_BYTES:
            decision = await asyncio.to_thread(decide, request, workspace, standing)
        else:
            decision = decide(request, workspace, standing)
        exchange.decision = decision
        exchange.retry_after_s = decision.retry_after_s if decision.effect is Effect.DENY else None
        return decision

    async def _approve(self, exchange: Exchange) -> Approval:
        """Hold *exchange* for the operator. Raises Refused and AgentLeft."""
        opened = self._peek(exchange)
        if opened is not None:
            await self._credentials.search(exchange, opened)  # before a person is asked about it
        approval = await self._approvals.given(exchange, opened)
        decision = await self._decide(exchange)  # switches may have been turned meanwhile
        if decision.effect is not Effect.ASK:
            raise Refused(decision.reason, decision.detail)
        return approval

    async def _take(self, exchange: Exchange, decision: Decision) -> None:
        """Count *exchange* against its service's limit. Raises Refused when that is used up."""
        _, service = known(exchange)
        if service.limit is None:
            return
        name = exchange.agent.workspace
        wait_s = await asyncio.to_thread(self._runtime.state.take, name, service.name, service.limit, time.time())
        if wait_s is not None:
            exchange.retry_after_s = wait_s
            exchange.decision = replace(decision, effect=Effect.DENY, reason=Reason.RATE_LIMITED, retry_after_s=wait_s)
            raise Refused(Reason.RATE_LIMITED, "this service's limit is used up")

    def _peek(self, exchange: Exchange) -> Opened | None:
        return self._runtime.vault.peek(exchange.agent.workspace)


def _release(exchange: Exchange, edits: Edits) -> None:
    request, service = known(exchange)
    outgoing = exchange.outgoing
    assert outgoing is not None and exchange.opened is not None
    exchange.opened = exchange.opened.with_signatures(edits.signatures)
    exchange.release = Release(request, outgoing.fields, outgoing.query, edits, service.headers)
    exchange.request_bytes = len(request.body or b"")
    exchange.sent_s = time.monotonic()
    exchange.phase = Phase.RELEASED


def _too_large(service: Service, request: Request) -> Refused:
    reader = "the signature covers" if service.auth.signs_body(request.host) else "a rule must read"
    return Refused(Reason.BODY_TOO_LARGE, f"{reader} this body, which may have at most {service.body_limit} bytes")


def _with_body(request: Request, body: bytes) -> Request:
    return Request(
        request.method, request.scheme, request.host, request.port, request.path, request.query,
        request.content_type, request.content_encoding, body,
    )  # fmt: skip


def _request(request: http.Request, host: str, port: int, path: CanonicalPath, outgoing: Outgoing | None = None) -> Request:
    return Request(
        method="WEBSOCKET" if is_websocket(request) else request.method,
        scheme=request.scheme,
        host=host,
        port=port,
        path=path,
        query=outgoing.query_pairs if outgoing else (),
        content_type=", ".join(field_values(request, b"content-type")),
        content_encoding=", ".join(field_values(request, b"content-encoding")),
    )


def _declared_length(request: http.Request) -> int | None:
    """Return how long the body is declared to be, 0 where HTTP/1.1 says there is none, None where it is not known."""
    declared = request.headers.get("content-length")
    if declared is not None:
        return int(declared)
    if request.is_http2 or "transfer-encoding" in request.headers:
        return None
    return 0


def _unclaimed_detail(workspace: Workspace, host: str) -> str:
    if workspace.egress == "passthrough":
        return f"{host} is tunnelled over https only; plain http is not forwarded"
    return f"no service of this workspace claims {host}"
