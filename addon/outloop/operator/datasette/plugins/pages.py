"""A Datasette plugin: the front page, the page of one request, and where the menu leads."""

from __future__ import annotations

from typing import Any

from datasette import hookimpl  # type: ignore[import-untyped]
from datasette.utils.asgi import NotFound, Response  # type: ignore[import-untyped]
from markupsafe import Markup, escape

from outloop.core.ledger import inert
from outloop.operator.datasette.facts import of_request, overview
from outloop.store.records import SHORT_ID_LENGTH

DATABASE = "audit"
# View → the ready query that shows it. A table page would read it once more for how many rows there are, and for each facet.
COUNTED = {"keys": "keys_by_use_and_age", "agents": "agents_by_use"}
MENU = (("", "Overview"), ("audit/audit", "Requests"), ("-/dashboards/charts", "Charts"), ("audit#queries", "Queries and tables"))


@hookimpl  # type: ignore[untyped-decorator]
def register_routes() -> list[tuple[str, Any]]:
    """Give each request a page of its own, and lead from the views that count every row to a page that counts once."""
    return [
        (r"^/-/request/(?P<id>[0-9A-Z]{26})(?P<format>\.json)?$", _request),
        (rf"^/{DATABASE}/(?P<view>{'|'.join(COUNTED)})$", _counted),
    ]


@hookimpl  # type: ignore[untyped-decorator]
def extra_css_urls() -> list[str]:
    """Ours comes after Datasette's."""
    return ["/outloop/outloop.css"]


@hookimpl  # type: ignore[untyped-decorator]
def extra_js_urls() -> list[dict[str, object]]:
    """Scripts stand in files: the pages forbid all others."""
    return [{"url": "/outloop/outloop.js", "module": True}]


@hookimpl  # type: ignore[untyped-decorator]
def extra_template_vars(template: str, datasette: Any, request: Any) -> Any:
    """Tell every page where the menu leads and how cells are shown; the front page, how things stand."""

    async def variables() -> dict[str, object]:
        found: dict[str, object] = {
            "outloop_menu": [(datasette.urls.path(f"/{path}"), label) for path, label in MENU],
            "outloop_cell": lambda column, value, row, table=None: _cell(datasette, column, value, row, table),
        }
        if template == "index.html" and request is not None and request.actor:
            found["outloop_state"] = await overview(datasette.get_database(DATABASE))
            found["outloop_queries"] = await datasette.get_canned_queries(DATABASE, request.actor)
        return found

    return variables


async def _counted(request: Any, datasette: Any) -> Any:
    await _ensure_signed_in(request, datasette)
    return Response.redirect(datasette.urls.query(DATABASE, COUNTED[request.url_vars["view"]]))


async def _request(request: Any, datasette: Any) -> Any:
    await _ensure_signed_in(request, datasette)
    audit_id = request.url_vars["id"]
    found = await of_request(datasette.get_database(DATABASE), audit_id)
    if found is None:
        raise NotFound("The record has no request with this id")
    if request.url_vars["format"]:
        return Response.json(found)
    notes = datasette.table_metadata(DATABASE, "audit")["columns"]
    context = {**found, "request_row": found["request"], "request_id": audit_id[-SHORT_ID_LENGTH:], "notes": notes}
    return Response.html(await datasette.render_template("request.html", context, request=request))


async def _ensure_signed_in(request: Any, datasette: Any) -> None:
    await datasette.ensure_permissions(request.actor, [("view-database", DATABASE), "view-instance"])


def _cell(datasette: Any, column: str, value: object, row: Any, table: str | None) -> Markup:
    from datasette.plugins import pm  # type: ignore[import-untyped]

    for shown in pm.hook.render_cell(row=row, value=value, column=column, table=table, database=DATABASE, datasette=datasette):
        if shown is not None:
            return escape(shown)
    return escape(inert(str(value)))
