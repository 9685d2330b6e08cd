"""A known credential in an agent's request, where it does not belong: an agent that came by one, or was told to carry it out.

Outloop puts the credential where its service expects it; anywhere else in a request it is on its way somewhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from outloop.core.decide import other_values_detail
from outloop.core.errors import ScrubError
from outloop.core.exposure import ExposureCheck
from outloop.core.model import Reason
from outloop.proxy.admission import Refused
from outloop.proxy.exchange import Exchange
from outloop.proxy.runtime import Runtime
from outloop.proxy.vault import Opened


def refuse_misplaced(runtime: Runtime, exchange: Exchange, opened: Opened) -> None:
    """Raise Refused when a value of this workspace, or of another that is in memory, stands in the request.

    A foreign value is answered as any body that policy does not allow, so that nothing can be inferred; the operator is told.
    """
    request, outgoing, service, agent = exchange.request, exchange.outgoing, exchange.service, exchange.agent
    assert request is not None and outgoing is not None and service is not None
    text = b"\n".join([request.path.text.encode(), outgoing.query.encode(), *(b"%s: %s" % field for field in outgoing.fields)])
    for owner, needles in [(agent.workspace, opened.needles), *runtime.vault.others(agent.workspace)]:
        if not any(ExposureCheck(needles).feed(part) for part in (text, request.body or b"")):
            continue
        is_own = owner == agent.workspace
        detail = "a value of this workspace" if is_own else f"a value of workspace {owner}"
        runtime.event(
            "credential_misplaced", workspace=agent.workspace, agent=agent.name or None, host=request.host, detail=detail
        )
        if is_own:
            raise Refused(Reason.CREDENTIAL_MISPLACED, "the request carries a credential that Outloop keeps")
        raise Refused(Reason.BODY_NOT_ALLOWED, other_values_detail(service.name))


def watched(exchange: Exchange, abort: Callable[[str], None]) -> Callable[[bytes], Sequence[bytes]]:
    """Return what a long upload streams through: it is counted, and cut before the piece that completes a known credential.

    A stream callable is nobody's hook: mitmproxy crashes on its exceptions. This one guards itself.
    """
    check = ExposureCheck(exchange.opened.needles) if exchange.opened is not None else None

    def passed(data: bytes) -> Sequence[bytes]:
        try:
            if exchange.is_cut or check is None or check.feed(data):
                raise ScrubError("an upload carries a credential that Outloop keeps")
            exchange.request_bytes += len(data)
            return [data] if data else []
        except Exception as error:  # noqa: BLE001  (cuts off)
            if not exchange.is_cut:
                exchange.is_cut = True
                exchange.reason, exchange.error = Reason.CREDENTIAL_MISPLACED, str(error)
                abort(str(error))
            # Never b"": in the middle of a chunked body it would be the end of it.
            return []

    return passed
