"""A Datasette plugin: cells as people read them. What an agent wrote is text, never markup and never a link elsewhere."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

from datasette import hookimpl  # type: ignore[import-untyped]
from markupsafe import Markup

from outloop.core.ledger import inert
from outloop.store.records import SHORT_ID_LENGTH

_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?Z")
_REQUESTS = frozenset({"id", "audit_id", "decision_id", "last_id"})  # where a request's id stands
_NO_REQUESTS = frozenset({"events"})  # whose `id` is another's

_GOOD, _BAD, _NEITHER = "good", "bad", "neutral"
_SIGNS = {_GOOD: "✓", _BAD: "✕", _NEITHER: "•"}  # so that colour is not all there is
_BADGES = {
    "decision": {"allow": _GOOD, "deny": _BAD},
    "claim": {"verified": _GOOD},
    "runtime_access": {"on": _GOOD, "off": _NEITHER, "removed": _NEITHER},
    "reason": {"OK": _GOOD, "approval_pending": _NEITHER},
}
_EXPOSED = {0: ("no", _GOOD), 1: ("yes", _BAD), None: ("not measured", _NEITHER)}


@hookimpl  # type: ignore[untyped-decorator]
def render_cell(row: Any, value: object, column: str, table: str | None, datasette: Any) -> Markup | str | None:
    """Return badges for what was decided, short times, and links for ids; texts as they are, printable."""
    if column == "secret_exposed":
        return _exposed(row, value)
    if value is None:
        return Markup('<span class="nothing">–</span>')
    if isinstance(value, float):
        return f"{value:,.1f}"
    if not isinstance(value, str):
        return None
    if column in _BADGES:
        return badge(value, _BADGES[column].get(value, _BAD if column == "reason" else _NEITHER))
    if column in _REQUESTS and table not in _NO_REQUESTS and _ULID.fullmatch(value):
        return Markup('<a class="id" href="{}" title="{}">{}</a>').format(
            datasette.urls.path(f"/-/request/{value}"), value, value[-SHORT_ID_LENGTH:]
        )
    moment = _TIME.fullmatch(value)
    if moment:
        return Markup('<time datetime="{}" title="{}">{} {}</time>').format(value, f"{value} (UTC)", moment[1], moment[2])
    return _text(column, inert(value), datasette)


def badge(text: str, kind: str) -> Markup:
    """Return *text* with the sign and colour of its *kind*."""
    return Markup('<span class="badge {}"><span aria-hidden="true">{}</span> {}</span>').format(kind, _SIGNS[kind], inert(text))


def _exposed(row: Any, value: object) -> Markup | None:
    names = row.keys()
    if value is None and "status" in names and "scrubbed" in names and row["scrubbed"] is None:
        return badge("under way", _NEITHER)
    shown = _EXPOSED.get(value)  # type: ignore[call-overload]
    return badge(*shown) if shown else None


def _text(column: str, text: str, datasette: Any) -> Markup | str:
    if column == "rule" and text:
        where = datasette.urls.path(f"/audit/audit?{urlencode({'rule': text})}")
        return Markup('<a class="rule" href="{}" title="what this rule decided">{}</a>').format(where, text)
    limit = datasette.setting("truncate_cells_html")
    if len(text) > limit:
        return Markup('<span title="{}">{}…</span>').format(text[: 4 * limit], text[:limit])
    return text or Markup('<span class="nothing">(empty)</span>')
