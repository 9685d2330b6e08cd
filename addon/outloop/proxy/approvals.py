"""Requests that a rule holds for the operator: asked for, waited for, and let go once a person has said yes.

An agent has no say in this: what is decided comes from state.db alone, which only the operator's commands write to. And the
approval outlives the connection: many clients give up after seconds, and send the request again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, NoReturn

from outloop.core.approvals import Approval, Asked, Status, asked_of
from outloop.core.decide import APPROVAL_RETRY_AFTER_S
from outloop.core.errors import UsageError
from outloop.core.model import Agent, Reason
from outloop.core.scrub import scrub
from outloop.proxy.admission import Refused
from outloop.proxy.exchange import Exchange
from outloop.proxy.notification import Notifier
from outloop.proxy.recording import masked_target
from outloop.proxy.runtime import Runtime
from outloop.proxy.vault import Opened

POLL_S = 0.05  # from yes to release: this, and a write to state.db
CROWD_RETRY_AFTER_S = 120
MOST_HELD = 40  # of one agent at a time: identical ones share a question, but each is a connection that is looked after

logger = logging.getLogger("mitmproxy.outloop")


class AgentLeft(Exception):
    """The agent has gone while its request was held: there is nobody to answer."""


class Approvals:
    """Holds exchanges until the operator has decided on them."""

    def __init__(self, runtime: Runtime, notifier: Notifier) -> None:
        self._runtime = runtime
        self._store = runtime.approvals
        self._notifier = notifier
        self._telling: set[asyncio.Task[None]] = set()
        self._held: Counter[Agent] = Counter()

    async def given(self, exchange: Exchange, opened: Opened | None) -> Approval:
        """Return the approval or grant by which *exchange* may go on; it is still to be used.

        *opened* is what is in memory of the workspace's keys: their values are masked in what the operator is shown.
        Raises Refused (pending, refused, expired) and AgentLeft.
        """
        assert exchange.workspace is not None
        asked = await asyncio.to_thread(_asked, exchange, opened)
        answer = await asyncio.to_thread(self._store.ask, asked, self._runtime.audit.ids.next(), time.time())
        for expired in answer.expired:
            self._runtime.approval_event("approval_expired", expired)
        approval = answer.approval
        if approval is None:
            exchange.retry_after_s = CROWD_RETRY_AFTER_S
            raise Refused(Reason.APPROVAL_PENDING, "too many requests of this agent wait for approval already")
        exchange.approval = approval.id
        if answer.is_new:
            self._runtime.approval_event("approval_requested", approval)
            self._in_background(self._notifier.tell(approval))
        hold_s = exchange.workspace.hold_s if self._held[exchange.agent] < MOST_HELD else 0
        self._held[exchange.agent] += 1
        try:
            return await self._decided(exchange, approval, time.monotonic() + hold_s)
        finally:
            self._held[exchange.agent] -= 1
            self._held += Counter()  # forgets those who wait for nothing

    async def use(self, exchange: Exchange, approval: Approval) -> None:
        """Use up *approval* for *exchange*, which goes on to the wire.

        Raises Refused where another request was first, AgentLeft where nobody waits for the answer any more.
        """
        if exchange.has_left:
            raise AgentLeft
        if not await asyncio.to_thread(self._store.use, approval, time.time()):
            _refuse_pending(exchange, "the approval was used by another request, or withdrawn")
        exchange.has_used_approval = approval.status is not Status.GRANTED

    async def give_back(self, exchange: Exchange) -> None:
        """Give an approval back that *exchange* has used up without reaching the wire. The exchange must be over."""
        if not exchange.has_used_approval or exchange.approval is None:
            return
        exchange.has_used_approval = False
        try:
            await asyncio.to_thread(self._store.give_back, exchange.approval)
        except UsageError as error:
            logger.warning("outloop: an approval stays used up: %s", error.message)

    async def _decided(self, exchange: Exchange, approval: Approval, deadline_s: float) -> Approval:
        found: Approval | None = approval
        seen = None
        while not _is_given(exchange, found):
            if exchange.has_left:
                raise AgentLeft
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                detail = f"that call to {approval.asked.service} waits for a person's approval: {approval.short_id}"
                _refuse_pending(exchange, detail)
            await asyncio.sleep(min(POLL_S, left_s) if seen else 0)
            version = self._store.version()  # before what it is the version of
            if version != seen:
                seen, now = version, time.time()
                found = self._store.grant_for(approval.asked, now) or self._store.find(approval.id)
        assert found is not None
        exchange.approval = found.id
        return found

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="outloop notification")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)


def _asked(exchange: Exchange, opened: Opened | None) -> Asked:
    request, outgoing, decision = exchange.request, exchange.outgoing, exchange.decision
    assert request is not None and outgoing is not None and decision is not None
    assert decision.service is not None and decision.rule is not None
    path = masked_target(request.path.text + (f"?{outgoing.query}" if outgoing.query else ""), opened)
    asked = asked_of(exchange.agent, decision.service, decision.rule, request, outgoing.query, outgoing.fields, path)
    return asked if opened is None else _without_keys(asked, opened)


def _without_keys(asked: Asked, opened: Opened) -> Asked:
    headers, body = (scrub(opened.scrub_set, text.encode())[0].decode() for text in (asked.headers, asked.body))
    return replace(asked, headers=headers, body=body)


def _is_given(exchange: Exchange, approval: Approval | None) -> bool:
    """Tell whether the request may go on; False while it waits. Raises Refused where it may not."""
    if approval is None:
        raise Refused(Reason.APPROVAL_EXPIRED, "the approval that this call waited for is gone")
    service = approval.asked.service
    match approval.status:
        case Status.PENDING if approval.stands(time.time()):
            return False
        case Status.APPROVED | Status.GRANTED if approval.stands(time.time()):
            return True
        case Status.REFUSED | Status.REVOKED:
            why = f": {approval.because}" if approval.because else ""
            raise Refused(Reason.APPROVAL_REFUSED, f"the operator refused that call to {service}{why}")
        case Status.CONSUMED:
            _refuse_pending(exchange, "the approval was used by a request like this one")
    raise Refused(Reason.APPROVAL_EXPIRED, f"the approval for that call to {service} was not given, or not used, in time")


def _refuse_pending(exchange: Exchange, detail: str) -> NoReturn:
    exchange.retry_after_s = APPROVAL_RETRY_AFTER_S
    raise Refused(Reason.APPROVAL_PENDING, detail)
