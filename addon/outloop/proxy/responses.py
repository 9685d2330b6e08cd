"""What comes back: decoded, scrubbed, measured, and cut off where it cannot be proved clean."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from copy import copy

from mitmproxy import http
from mitmproxy.net.http import status_codes

from outloop.core.auth import Fields
from outloop.core.cleaning import BodyCleaner, clean_value
from outloop.core.errors import ScrubError
from outloop.core.exposure import ExposureCheck
from outloop.core.model import Reason
from outloop.core.refusal import AUDIT_HEADER
from outloop.core.scrub import ScrubSet
from outloop.proxy.exchange import Exchange
from outloop.proxy.flows import field_values
from outloop.proxy.vault import Opened

BUFFERED_BYTES = 64 * 1024
CODED_BYTES = 8 * 1024  # what is compressed may grow a thousandfold, and would be held several times over

# Digests of a body that scrubbing may change, the coding that was taken off, offers of another transport that would lead
# around the proxy (RFC 7838), and fields that only Outloop may set.
DROPPED = frozenset(
    b"content-encoding digest content-md5 repr-digest content-digest want-digest alt-svc trailer proxy-authenticate "
    b"proxy-authentication-info outloop-audit-id outloop-reason".split()
)
_BODILESS = frozenset({204, 304})


def cleaned_head(exchange: Exchange, upstream: http.Response) -> http.Response:
    """Return *upstream*'s head without any secret, and set up the cleaning of its body.

    Raises ScrubError for a head that cannot be made clean and for a switch to a protocol nobody asked for.
    """
    opened = _opened(exchange)
    if upstream.status_code == 101 and not _is_awaited_switch(exchange, upstream):
        raise ScrubError("the upstream switched to another protocol")
    if any(value.strip().lower() not in ("chunked", "identity") for value in field_values(upstream, b"transfer-encoding")):
        raise ScrubError("the response has a transfer coding that nobody asked for")
    kept = tuple(field for field in upstream.headers.fields if field[0].lower().replace(b"_", b"-") not in DROPPED)
    reason, fields, hits = _cleaned_lines(opened.scrub_set, upstream, kept)
    exchange.scrubbed += hits
    fields.append((AUDIT_HEADER.encode(), exchange.id.encode()))
    measure_head(opened, reason, fields)
    exchange.secret_exposed = 0
    response = copy(upstream)
    response.data = copy(upstream.data)
    response.data.reason = reason
    response.data.headers = http.Headers(fields)
    response.data.trailers = None
    exchange.cleaner = BodyCleaner(opened.scrub_set, ExposureCheck(opened.needles), content_coding(upstream))
    return response


def _cleaned_lines(scrub_set: ScrubSet, upstream: http.Response, kept: Fields) -> tuple[bytes, list[tuple[bytes, bytes]], int]:
    """Return the reason phrase and the fields without any secret, and how often something was taken out."""
    reason = upstream.data.reason
    # One look at all of it is enough where it finds nothing: whatever stands in a part stands in the whole.
    if not clean_value(scrub_set, b"\n".join([reason, *(part for field in kept for part in field)]))[1]:
        return reason, list(kept), 0
    reason, hits = clean_value(scrub_set, reason)
    if hits:
        reason = status_codes.RESPONSES.get(upstream.status_code, "").encode()
    fields: list[tuple[bytes, bytes]] = []
    for name, value in kept:
        _, name_hits = clean_value(scrub_set, name)
        clean, value_hits = clean_value(scrub_set, value)
        hits += name_hits + value_hits
        if not name_hits:
            fields.append((name, clean))
    return reason, fields, hits


def measure_head(opened: Opened, reason: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    """Raise ScrubError when a secret stands in what is about to leave as a head, by the check that shares no code."""
    block = b"\r\n".join([reason, *(b"%s: %s" % field for field in fields)])
    if ExposureCheck(opened.needles).feed(block):
        raise ScrubError("the response head still holds a secret")


def content_coding(response: http.Response) -> str:
    """Return the content codings of *response* as one header value, "" where there are none."""
    return ", ".join(field_values(response, b"content-encoding"))


def is_small(request: http.Request, response: http.Response) -> bool:
    """Tell whether the body is declared, and short enough to be cleaned whole."""
    if request.method == "HEAD" or response.status_code in _BODILESS or response.status_code < 200:
        return True
    declared = response.headers.get("content-length", "")
    limit = CODED_BYTES if content_coding(response) else BUFFERED_BYTES
    return declared.isascii() and declared.isdigit() and int(declared) <= limit


def clean_whole(exchange: Exchange, response: http.Response) -> None:
    """Clean the collected body of *response* in place. Raises ScrubError."""
    cleaner = exchange.cleaner
    body = response.raw_content
    if cleaner is None:
        raise ScrubError("the response was not set up for cleaning")
    exchange.cleaner = None
    if not body:
        return
    clean = b"".join([*cleaner.feed(body), *cleaner.finish()])
    exchange.scrubbed += cleaner.hits
    exchange.response_bytes = len(clean)
    if clean != body:
        response.data.content = clean
        response.headers["Content-Length"] = str(len(clean))


def stream(exchange: Exchange, response: http.Response, *, chunked: bool, abort: Callable[[str], None]) -> None:
    """Have the body of *response* cleaned piece by piece; *abort* cuts the transfer so that no client takes it for whole.

    A stream callable is nobody's hook: mitmproxy crashes on its exceptions and the agent hangs. This one guards itself. It
    yields each piece when mitmproxy asks for it, so that what a few bytes decode to is never held as a whole, and never ``b""``,
    which would end a chunked message in the middle.
    """
    response.headers.pop("content-length", None)
    response.headers.pop("transfer-encoding", None)
    if chunked:
        response.headers["Transfer-Encoding"] = "chunked"
    is_cut = False

    def cleaned(data: bytes) -> Iterator[bytes]:
        nonlocal is_cut
        if is_cut:
            return
        try:
            cleaner = exchange.cleaner
            if cleaner is None:
                raise ScrubError("the response was not set up for cleaning")
            for piece in cleaner.pieces(data) if data else cleaner.finish():
                _count(exchange, cleaner, piece)
                yield piece
            _count(exchange, cleaner)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  (cuts off)
            is_cut = True
            exchange.secret_exposed = int(exchange.cleaner is not None and exchange.cleaner.exposed)
            exchange.reason = Reason.SCRUB_FAILED
            exchange.error = str(error) if isinstance(error, ScrubError) else f"unexpected {type(error).__name__}"
            abort(exchange.error)

    response.stream = exchange.stream = cleaned


def _count(exchange: Exchange, cleaner: BodyCleaner, piece: bytes = b"") -> None:
    exchange.scrubbed += cleaner.hits - exchange.streamed_hits
    exchange.streamed_hits = cleaner.hits
    exchange.response_bytes += len(piece)


def _opened(exchange: Exchange) -> Opened:
    if exchange.opened is None:
        raise ScrubError("nothing is known of what to scrub")
    return exchange.opened


def _is_awaited_switch(exchange: Exchange, upstream: http.Response) -> bool:
    is_asked = exchange.request is not None and exchange.request.method == "WEBSOCKET"
    return (
        is_asked
        and upstream.headers.get("upgrade", "").lower() == "websocket"
        and not upstream.headers.get("sec-websocket-extensions")
    )
