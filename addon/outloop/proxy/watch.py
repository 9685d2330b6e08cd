"""A known credential in an agent's request, where it does not belong: an agent that came by one, or was told to carry it out.

Outloop puts the credential where its service expects it; anywhere else in a request it is on its way somewhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from outloop.core.decide import other_values_detail
from outloop.core.exposure import ExposureCheck
from outloop.core.model import Reason
from outloop.proxy.admission import Refused
from outloop.proxy.exchange import Exchange
from outloop.proxy.runtime import Runtime


class Watch:
    """Looks for values of the agent's workspace, and of others that are in memory, in what the agent sends.

    A foreign value is answered as any body that policy does not allow, so that nothing can be inferred; the operator is told.
    Raises KeyError where the exchange has no keys opened yet: nothing passes unwatched.
    """

    def __init__(self, runtime: Runtime, exchange: Exchange) -> None:
        if exchange.opened is None:
            raise KeyError("no keys are opened for this request")
        self._runtime = runtime
        self._exchange = exchange
        own = exchange.agent.workspace
        self._checks = [
            (owner, ExposureCheck(needles)) for owner, needles in [(own, exchange.opened.needles), *runtime.vault.others(own)]
        ]

    def refuse_known(self, data: bytes) -> None:
        """Raise Refused when *data*, the next piece of one stream, completes a known value; the event is written."""
        agent, service = self._exchange.agent, self._exchange.service
        for owner, check in self._checks:
            if not check.feed(data):
                continue
            is_own = owner == agent.workspace
            detail = "a value of this workspace" if is_own else f"a value of workspace {owner}"
            self._runtime.event(
                "credential_misplaced",
                workspace=agent.workspace,
                agent=agent.name or None,
                host=self._exchange.said.host,
                detail=detail,
            )
            if is_own:
                raise Refused(Reason.CREDENTIAL_MISPLACED, "the request carries a credential that Outloop keeps")
            raise Refused(Reason.BODY_NOT_ALLOWED, other_values_detail(service.name if service else ""))


def refuse_misplaced(runtime: Runtime, exchange: Exchange) -> None:
    """Raise Refused when a known value stands in the path, query, headers or body read of *exchange*."""
    request, outgoing = exchange.request, exchange.outgoing
    assert request is not None and outgoing is not None
    text = b"\n".join([request.path.text.encode(), outgoing.query.encode(), *(b"%s: %s" % field for field in outgoing.fields)])
    Watch(runtime, exchange).refuse_known(text)
    if request.body:
        Watch(runtime, exchange).refuse_known(request.body)


def watched(runtime: Runtime, exchange: Exchange, abort: Callable[[str], None]) -> Callable[[bytes], Sequence[bytes]]:
    """Return what a long upload streams through: it is counted, and cut before the piece that completes a known credential.

    A stream callable is nobody's hook: mitmproxy crashes on its exceptions. This one guards itself.
    """
    watch = Watch(runtime, exchange)

    def passed(data: bytes) -> Sequence[bytes]:
        if exchange.is_cut:
            return []
        try:
            watch.refuse_known(data)
            exchange.request_bytes += len(data)
            return [data] if data else []
        except Exception as error:  # noqa: BLE001  (cuts off)
            exchange.is_cut = True
            exchange.reason = error.reason if isinstance(error, Refused) else Reason.INTERNAL_ERROR
            exchange.error = str(error) if isinstance(error, Refused) else f"unexpected {type(error).__name__}"
            abort(exchange.error)
            # Never b"": in the middle of a chunked body it would be the end of it.
            return []

    return passed
