"""A known credential or a decoy in an agent's request: an agent that came by one, or was told to carry it out.

Outloop puts the credential where its service expects it; anywhere else in a request it is on its way somewhere else. A decoy
belongs nowhere: its use is an alarm, whose it is, whoever uses it, and whatever else is wrong with the request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from mitmproxy import http

from outloop.core.auth import Edits
from outloop.core.decide import other_values_detail
from outloop.core.decoys import Decoy
from outloop.core.model import Reason
from outloop.core.outgoing import misplaced
from outloop.core.scrub import without
from outloop.core.search import Search
from outloop.proxy.admission import Refused
from outloop.proxy.exchange import Exchange
from outloop.proxy.flows import field_values
from outloop.proxy.heads import UnreadableRequest
from outloop.proxy.runtime import Runtime
from outloop.proxy.vault import NOTHING_OPENED

# The same for every decoy: an agent is not told whose it is.
DECOY_DETAIL = "the request carries a decoy: a credential that opens nothing, and whose use is reported"
_UNREADABLE = "the body is not in the coding that it declares"
_AGENTS_TOKEN = b"proxy-authorization"  # between the agent and this proxy alone

FOUND_ON_LOOP_BYTES = 16 * 1024

Found = TypeVar("Found")

logger = logging.getLogger("mitmproxy.outloop")


class DecoyWatch:
    """Looks for decoys in one stream of *exchange*, and rings the alarm; what becomes of the request is for others to say."""

    def __init__(self, runtime: Runtime, exchange: Exchange, content_encoding: str = "") -> None:
        self._alarm = runtime.alarm
        self._planted = runtime.decoys.planted
        self._exchange = exchange
        self._search = Search([self._planted.needles], content_encoding) if self._planted else None

    def look(self, data: bytes) -> None:
        """Look at *data*, the next piece of the stream."""
        self.ring(self.find(data))

    def find(self, data: bytes) -> list[Decoy]:
        """Return the decoys that *data* completes; the part of looking that takes long, for any thread."""
        found = self._search.feed(data) if self._search else ()
        return [decoy for _, text in found for decoy in self._planted.found_in(text)]

    def ring(self, found: Sequence[Decoy]) -> None:
        """Ring the alarm for what was found, on the event loop."""
        if found:
            self._alarm.ring(self._exchange, self._planted, found)


class Watch:
    """Looks for values of the agent's workspace, of others that are in memory, and for decoys, in what the agent sends.

    A foreign value is answered as any body that policy does not allow, so that nothing can be inferred; the operator is told.
    Raises KeyError where the exchange has no keys opened yet: nothing passes unwatched.
    """

    def __init__(self, runtime: Runtime, exchange: Exchange, content_encoding: str = "") -> None:
        if exchange.opened is None:
            raise KeyError("no keys are opened for this request")
        self._runtime = runtime
        self._exchange = exchange
        self._planted = runtime.decoys.planted
        own = exchange.agent.workspace
        known = [(own, exchange.opened.needles), *runtime.vault.others(own)]
        self._owners = [owner for owner, _ in known]
        decoys = [self._planted.needles] if self._planted else []
        self._search = Search([*(needles for _, needles in known), *decoys], content_encoding)

    def refuse_known(self, data: bytes) -> None:
        """Raise Refused when *data*, the next piece of one stream, completes a known value; the event is written.

        So it does when a body is not in the coding it declares: what cannot be read cannot be looked at.
        """
        self.refuse(self.find(data))

    def find(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return what *data* completes, for `refuse`; the part of looking that takes long, for any thread."""
        return list(self._search.feed(data))

    def refuse(self, found: Sequence[tuple[int, bytes]]) -> None:
        """Raise Refused for what was found, on the event loop."""
        for place, text in found:
            if place == len(self._owners):
                self._runtime.alarm.ring(self._exchange, self._planted, self._planted.found_in(text))
        refuse_decoys(self._exchange)
        for place, _ in found:
            self._refuse_value_of(self._owners[place])
        if self._search.is_unreadable:
            raise Refused(Reason.MALFORMED_REQUEST, _UNREADABLE)

    def _refuse_value_of(self, owner: str) -> None:
        agent, service = self._exchange.agent, self._exchange.service
        is_own = owner == agent.workspace
        if (known := self._runtime.vault.peek(owner)) is not None:
            self._exchange.unrepeatable.append(known.scrub_set)
        self._runtime.event(
            "credential_misplaced",
            workspace=agent.workspace,
            agent=agent.name or None,
            host=without(self._exchange.unrepeatable, self._exchange.said.host),
            detail="a value of this workspace" if is_own else f"a value of workspace {owner}",
        )
        if is_own:
            raise Refused(Reason.CREDENTIAL_MISPLACED, "the request carries a credential that Outloop keeps")
        raise Refused(Reason.BODY_NOT_ALLOWED, other_values_detail(service.name if service else ""))


def refuse_decoys(exchange: Exchange) -> None:
    """Raise Refused when *exchange* was seen to use a decoy."""
    if exchange.decoys:
        raise Refused(Reason.DECOY_USED, DECOY_DETAIL)


def look_at_head(runtime: Runtime, flow: http.HTTPFlow, exchange: Exchange) -> None:
    """Look for decoys in all that *flow* begins with, also in what is stripped; have its body looked at where it is dropped."""
    if not runtime.decoys.planted:
        return
    request = flow.request
    DecoyWatch(runtime, exchange).look(_head_of(request) + b"\n" + (flow.client_conn.sni or "").encode())
    watch = DecoyWatch(runtime, exchange, _content_encoding(request))
    exchange.dropped = _guarded(watch.look)


def refuse_known_in_connect(runtime: Runtime, flow: http.HTTPFlow, exchange: Exchange) -> None:
    """Raise Refused when a value in memory stands in a CONNECT: its name would be resolved, and that is a way out.

    The keychain is not asked for more: who connects has not been allowed anything yet.
    """
    exchange.opened = runtime.vault.peek(exchange.agent.workspace) or NOTHING_OPENED
    Watch(runtime, exchange).refuse_known(_head_of(flow.request))


async def look_at_body(runtime: Runtime, exchange: Exchange, body: bytes) -> None:
    """Look for decoys in the whole *body* that a request came with."""
    if body and runtime.decoys.planted:
        watch = DecoyWatch(runtime, exchange, exchange.request.content_encoding if exchange.request else "")
        watch.ring(await _aside(watch.find, body))


def look_at_trailers(runtime: Runtime, exchange: Exchange, trailers: http.Headers) -> None:
    """Look for decoys in *trailers*, which go nowhere."""
    DecoyWatch(runtime, exchange).look(_lines(trailers.fields))


async def refuse_misplaced(runtime: Runtime, exchange: Exchange, edits: Edits) -> None:
    """Raise Refused when a known value stands in the path, query, headers or body read of *exchange*.

    *edits* put the service's own credential in its place: where the agent has put the very same there, it is replaced by itself.
    """
    request, outgoing = exchange.request, exchange.outgoing
    assert request is not None and outgoing is not None
    fields = outgoing.fields + misplaced(outgoing.left_behind, edits)
    text = b"\n".join([request.path.text.encode(), outgoing.query.encode(), *(b"%s: %s" % field for field in fields)])
    Watch(runtime, exchange).refuse_known(text)
    if request.body:
        watch = Watch(runtime, exchange, request.content_encoding)
        watch.refuse(await _aside(watch.find, request.body))


def watched(runtime: Runtime, exchange: Exchange, abort: Callable[[str], None]) -> Callable[[bytes], Sequence[bytes]]:
    """Return what a long upload streams through: it is counted, and cut before the piece that completes a known credential.

    A stream callable is nobody's hook: mitmproxy crashes on its exceptions. This one guards itself.
    """
    watch = Watch(runtime, exchange, exchange.request.content_encoding if exchange.request else "")

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


async def _aside(find: Callable[[bytes], Found], body: bytes) -> Found:
    """Return what *find* finds in *body*; not while every other request waits, where it takes long."""
    return find(body) if len(body) <= FOUND_ON_LOOP_BYTES else await asyncio.to_thread(find, body)


def _guarded(look: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Return *look* for a place that no hook guards. What it looks at goes nowhere: there is nothing to close."""

    def guarded(data: bytes) -> None:
        try:
            look(data)
        except Exception as error:  # noqa: BLE001
            logger.error("outloop: a bug in looking for decoys: %s", type(error).__name__)

    return guarded


def _head_of(request: http.Request) -> bytes:
    if isinstance(request, UnreadableRequest):
        return b"\n".join(line for line in request.said if not line.lower().startswith(_AGENTS_TOKEN))
    data = request.data
    fields = [(name, value) for name, value in data.headers.fields if name.lower() != _AGENTS_TOKEN]
    return b"\n".join([data.method, data.path, data.authority, request.host.encode("utf-8", "replace"), _lines(fields)])


def _lines(fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"\n".join(b"%s: %s" % field for field in fields)


def _content_encoding(request: http.Request) -> str:
    return ", ".join(field_values(request, b"content-encoding"))
