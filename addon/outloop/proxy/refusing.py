"""Saying no: the refusal of a flow with its row, and the wrapper that turns whatever a hook raises into one."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Protocol

from mitmproxy import http

from outloop.core.errors import AuditError, ScrubError
from outloop.core.model import Reason, Refusal
from outloop.core.refusal import next_step, status
from outloop.core.scrub import without
from outloop.proxy.admission import Refused
from outloop.proxy.exchange import Exchange, Phase
from outloop.proxy.flows import answering, refusal_response
from outloop.proxy.heads import UnreadableRequest
from outloop.proxy.recording import Recorder
from outloop.proxy.traffic import Traffic
from outloop.proxy.vault import Vault
from outloop.proxy.watch import DECOY_DETAIL

# What a decoy in the request comes before: first that applies, in the order of `Reason`.
_BEHIND_DECOYS = frozenset(list(Reason)[list(Reason).index(Reason.DECOY_USED) : list(Reason).index(Reason.AUDIT_UNAVAILABLE)])

logger = logging.getLogger("mitmproxy.outloop")


class Refuser:
    """Answers flows with refusals."""

    def __init__(self, traffic: Traffic, recorder: Recorder, vault: Vault) -> None:
        self._traffic = traffic
        self._recorder = recorder
        self._vault = vault

    async def refuse(self, flow: http.HTTPFlow, reason: Reason, detail: str) -> None:
        """Answer *flow* with a refusal, its row written first; where no row can be had, the refusal says so.

        Never raises: a flow that cannot be answered is killed.
        """
        try:
            exchange = self._traffic.of(flow) or self._traffic.begin(flow, self._recorder.new_id())
            exchange.release = None
            if exchange.decoys and reason in _BEHIND_DECOYS:
                reason, detail, exchange.retry_after_s = Reason.DECOY_USED, DECOY_DETAIL, None
            opened = self._vault.peek(exchange.agent.workspace)
            exchange.unrepeatable += self._vault.scrub_sets()  # nothing has searched it, or not to the end
            detail = without(exchange.unrepeatable, detail)
            if reason is Reason.AUDIT_UNAVAILABLE:
                exchange.id = ""  # no second try at the record: the agent has waited for the first
            elif exchange.row_written:
                exchange.reason, exchange.error = reason, detail
                self._recorder.outcome(exchange, status(reason), reason, detail)
            else:
                try:
                    await self._recorder.refused(exchange, reason, opened)
                except AuditError:
                    reason, detail, exchange.id = Reason.AUDIT_UNAVAILABLE, "the audit record cannot be written", ""
            self.answer(flow, exchange, reason, detail)
        except Exception as error:  # noqa: BLE001  (closes)
            logger.error("outloop: a refusal could not be written: %s; the connection was closed", type(error).__name__)
            flow.kill()

    def answer(self, flow: http.HTTPFlow, exchange: Exchange, reason: Reason, detail: str) -> None:
        """Have *flow* answered with the refusal document."""
        service = exchange.service
        named = (service.name, service.key) if service else ("", "")
        step = next_step(reason, exchange.agent.workspace, *named, audit_id=exchange.id)
        refusal = Refusal(reason, detail, step, exchange.id, named[0] or None, exchange.retry_after_s)
        exchange.phase = Phase.REFUSED if exchange.phase is not Phase.CLOSED else Phase.CLOSED
        exchange.answer = answering(flow.request, refusal_response(refusal))
        if isinstance(flow.request, UnreadableRequest) and not flow.request.is_http2:
            exchange.answer.headers["Connection"] = "close"  # RFC 9112 §9.6: what follows cannot be told from the rest of it
        flow.request.stream = False
        flow.request.headers.pop("expect", None)
        flow.response = exchange.answer


def undialled(hook: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """Do not dial when *hook* raises anything: `closed`, for the one hook that answers for a connection."""

    @wraps(hook)
    def guarded(self: Any, data: Any) -> None:
        try:
            hook(self, data)
        except BaseException as error:
            data.server.error = "outloop: nothing was decided about this connection"
            if not isinstance(error, Exception):
                raise
            logger.error("outloop: a bug in %s: %s; nothing is dialled", hook.__name__, type(error).__name__)

    return guarded


class Guarded(Protocol):
    """An addon whose hooks `closed` wraps."""

    def refuser(self) -> Refuser:
        """Return who refuses for it."""
        ...


def closed(hook: Callable[[Any, http.HTTPFlow], Awaitable[None]]) -> Callable[[Any, http.HTTPFlow], Awaitable[None]]:
    """Refuse the flow when *hook* raises anything: the one place that catches everything."""

    @wraps(hook)
    async def guarded(self: Guarded, flow: http.HTTPFlow) -> None:
        try:
            try:
                await hook(self, flow)
            except Refused as refused:
                await self.refuser().refuse(flow, refused.reason, refused.detail)
            except AuditError as error:
                logger.error("outloop: %s", error.message)
                await self.refuser().refuse(flow, Reason.AUDIT_UNAVAILABLE, "the audit record cannot be written")
            except ScrubError as error:
                await self.refuser().refuse(flow, Reason.SCRUB_FAILED, error.message)
            except Exception as error:
                logger.error(
                    "outloop: a bug in %s: %s; the request is refused", hook.__name__, type(error).__name__, exc_info=True
                )
                await self.refuser().refuse(flow, Reason.INTERNAL_ERROR, "Outloop could not handle this request")
        except BaseException:
            flow.kill()
            raise

    return guarded
