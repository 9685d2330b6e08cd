"""From an exchange to its rows: the decision before anything leaves, the outcome once it is known."""

from __future__ import annotations

import contextlib
import re
import time

from outloop.core.errors import MalformedRequest
from outloop.core.ledger import DecisionRow, OutcomeRow, timestamp
from outloop.core.masking import MASK, is_telling
from outloop.core.model import Reason
from outloop.core.paths import parse_query
from outloop.core.proofs import is_proof, runtime_mode
from outloop.core.refusal import status as refusal_status
from outloop.core.scrub import without
from outloop.proxy.exchange import Exchange, Phase
from outloop.proxy.runtime import clock_ms
from outloop.proxy.vault import Opened
from outloop.store.audit import AuditWriter

_SEPARATOR = re.compile("([&;])")


class Recorder:
    """Writes the rows of exchanges. Its methods raise AuditError when a row cannot be committed."""

    def __init__(self, audit: AuditWriter) -> None:
        self._audit = audit

    def new_id(self) -> str:
        """Return an id for an exchange."""
        return self._audit.ids.next()

    async def allowed(self, exchange: Exchange, opened: Opened | None) -> None:
        """Commit the decision to let *exchange* go upstream."""
        await self._commit(exchange, "allow", opened)

    async def refused(self, exchange: Exchange, reason: Reason, opened: Opened | None) -> None:
        """Commit the decision to refuse *exchange* and note its outcome, which is known already."""
        exchange.phase = Phase.REFUSED
        await self._commit(exchange, "deny", opened, reason)
        self.outcome(exchange, refusal_status(reason))

    async def abandoned(self, exchange: Exchange, reason: Reason, opened: Opened | None) -> None:
        """Record that *exchange* does not go on, because its agent has left: nobody is answered."""
        if not exchange.row_written:
            exchange.phase = Phase.REFUSED
            await self._commit(exchange, "deny", opened, reason)
        self.outcome(exchange, None, error="the agent left")

    def outcome(self, exchange: Exchange, status: int | None, reason: Reason | None = None, error: str | None = None) -> None:
        """Note, once, what became of *exchange*."""
        if exchange.phase is Phase.CLOSED or not exchange.row_written:
            return
        exchange.phase = Phase.CLOSED
        now_s = time.monotonic()
        upstream_ms = None
        if exchange.sent_s is not None:
            upstream_ms = ((exchange.answered_s or now_s) - exchange.sent_s) * 1000
        self._audit.append(
            OutcomeRow(
                decision_id=exchange.id,
                at=timestamp(clock_ms()),
                status=status,
                reason=reason.value if reason else None,
                scrubbed=exchange.scrubbed,
                secret_exposed=exchange.secret_exposed,
                request_bytes=exchange.request_bytes,
                response_bytes=exchange.response_bytes,
                duration_ms=(now_s - exchange.started_s) * 1000,
                upstream_ms=upstream_ms,
                error=error,
            )
        )

    async def _commit(self, exchange: Exchange, decision: str, opened: Opened | None, reason: Reason = Reason.OK) -> None:
        request, service = exchange.request, exchange.service
        rule = exchange.decision.rule if exchange.decision else None
        await self._audit.commit(
            DecisionRow(
                id=exchange.id,
                at=timestamp(clock_ms()),
                workspace=exchange.agent.workspace or None,
                agent=exchange.agent.name or None,
                service=service.name if service else None,
                key=service.key if service else None,
                method=request.method if request else exchange.said.method,
                scheme=request.scheme if request else exchange.said.scheme,
                host=_masked_host(exchange, opened),
                port=request.port if request else exchange.said.port,
                path=masked_path(exchange, opened),
                decision=decision,
                reason=reason.value,
                rule=str(rule.place) if rule else None,
                runtime_mode=_runtime_mode(exchange),
                proof=int(request is not None and service is not None and is_proof(request, service)),
                approval=exchange.approval,
                stripped=exchange.stripped,
                policy=exchange.workspace.digest if exchange.workspace else None,
            )
        )
        exchange.row_written = True


def masked_path(exchange: Exchange, opened: Opened | None) -> str:
    """Return path and query for the record, without the value of any credential that stands in them."""
    return without(exchange.unrepeatable, masked_target(exchange.said.target, opened))


def _masked_host(exchange: Exchange, opened: Opened | None) -> str:
    host = exchange.request.host if exchange.request else exchange.said.host
    return without([*exchange.unrepeatable, *([opened.scrub_set] if opened else [])], host)


def masked_target(target: str, opened: Opened | None) -> str:
    """Return *target*, path and query, without the value of any credential that stands in it."""
    path, mark, query = target.partition("?")
    pieces = [piece if piece in "&;" else _masked_piece(piece) for piece in _SEPARATOR.split(query)] if mark else []
    text = path + mark + "".join(pieces)
    return without([opened.scrub_set], text) if opened is not None else text


def _runtime_mode(exchange: Exchange) -> str | None:
    if exchange.request is not None and exchange.service is not None:
        return runtime_mode(exchange.request, exchange.service)
    if exchange.said.method == "CONNECT":
        return None
    return "read" if exchange.said.method in ("GET", "HEAD") else "write"


def _masked_piece(piece: str) -> str:
    name, sign, _ = piece.partition("=")
    if not sign:
        return piece
    said = name
    if "%" in name or "+" in name:  # else it reads as it stands
        with contextlib.suppress(MalformedRequest):
            said = parse_query(name)[0][0]
    return f"{name}={MASK}" if is_telling(said) else piece
