"""What puts the credential on a request: the workspace's keys, a token made where there is none, and the edits for the wire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from outloop.core.auth import MINTED, Edits, Facts, Parts
from outloop.core.errors import KeyLocked, KeyMissing, KeyUnusable, MalformedRequest
from outloop.core.model import Reason, Request, Service
from outloop.proxy.admission import Refused
from outloop.proxy.approvals import AgentLeft
from outloop.proxy.exchange import Exchange
from outloop.proxy.minting import Minting
from outloop.proxy.runtime import Runtime
from outloop.proxy.vault import Opened
from outloop.proxy.watch import refuse_misplaced
from outloop.proxy.wire import wire_method

SIGNED_ON_LOOP_BYTES = 64 * 1024  # a signature covers the body: hashing a longer one would hold the others up


class Credentials:
    """Opens keys for exchanges."""

    def __init__(self, runtime: Runtime, minting: Minting) -> None:
        self._runtime = runtime
        self._minting = minting

    async def open(self, exchange: Exchange) -> tuple[Opened, Edits | None]:
        """Open the workspace's keys; return them, and the edits that put this service's on the request. Raises Refused.

        There are no edits where a token has to be made first: that may take the network, and so has to be on record before.
        """
        request, service = known(exchange)
        assert exchange.workspace is not None
        with _refusing(service):
            opened = await self._runtime.vault.open(exchange.workspace, service, self._runtime.state.snapshot(), time.time())
            parts = _parts(exchange, opened)
            edits = None
            if exchange.token is not None or not service.auth.mints:
                is_long = request.body is not None and len(request.body) > SIGNED_ON_LOOP_BYTES
                facts = _facts(exchange)
                edits = await asyncio.to_thread(service.auth.edits, parts, facts) if is_long else service.auth.edits(parts, facts)
        await self.search(exchange, opened)
        return opened, edits

    async def search(self, exchange: Exchange, opened: Opened) -> None:
        """Raise Refused when *exchange* carries a value that does not belong in it; once for the same values in memory."""
        if exchange.opened is opened:
            return
        exchange.opened = opened
        await refuse_misplaced(self._runtime, exchange, _own(exchange, opened))

    async def mint(self, exchange: Exchange) -> Edits:
        """Have a token made, and open the keys anew, so that what comes back is scrubbed of it. Raises Refused and AgentLeft."""
        _, service = known(exchange)
        assert exchange.workspace is not None
        await self._minting.mint(exchange.workspace, service, exchange.agent)
        if exchange.has_left:
            raise AgentLeft
        _, edits = await self.open(exchange)
        if edits is None:
            raise Refused(Reason.UPSTREAM_FAILED, "the token endpoint gives tokens that have ended before they can be used")
        return edits


def known(exchange: Exchange) -> tuple[Request, Service]:
    """Return what *exchange* asks for, and of which service: both are known once its target was read."""
    assert exchange.request is not None and exchange.service is not None
    return exchange.request, exchange.service


def _own(exchange: Exchange, opened: Opened) -> Edits:
    """Return what puts the service's own credential in its place, as far as it is in memory. A signature is nobody's to bring."""
    _, service = known(exchange)
    try:
        return service.auth.edits(_parts(exchange, opened), replace(_facts(exchange), body=b""))
    except (KeyError, KeyUnusable, MalformedRequest):
        return Edits()


def _parts(exchange: Exchange, opened: Opened) -> Parts:
    """Return the parts of the service's key, with the token made from them where there is one. Raises KeyError without a key."""
    _, service = known(exchange)
    parts, held = opened.parts[service.key], opened.tokens.get(service.key)
    exchange.token = held.token_for(service.auth) if held and service.auth.mints else None
    return parts if exchange.token is None else {**parts, MINTED: exchange.token}


@contextmanager
def _refusing(service: Service) -> Iterator[None]:
    """Turn what stands between a request and its service's key into Refused."""
    try:
        yield
    except KeyUnusable as error:
        raise Refused(Reason.KEY_MISSING, f"the key stored for {service.name} cannot be used: {error.message}") from None
    except (KeyMissing, KeyError):
        raise Refused(Reason.KEY_MISSING, f"no key is stored for {service.name} in this workspace") from None
    except KeyLocked:
        raise Refused(Reason.KEY_LOCKED, "the operator's keychain cannot be read") from None
    except MalformedRequest as error:
        raise Refused(Reason.MALFORMED_REQUEST, error.message) from None


def _facts(exchange: Exchange) -> Facts:
    """Return what a signature covers: the request as it is released (proxy/wire.py adds its framing and nothing else)."""
    request, service = known(exchange)
    outgoing = exchange.outgoing
    assert outgoing is not None
    method, path = wire_method(request.method), request.path.text
    return Facts(method, request.authority, path, outgoing.query, outgoing.fields, service.headers, request.body, time.time())
