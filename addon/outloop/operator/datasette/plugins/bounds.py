"""A Datasette plugin: what a connection may do, and how far back a page of rows looks."""

from __future__ import annotations

from typing import Any

from datasette import hookimpl  # type: ignore[import-untyped]
from datasette.filters import FilterArguments  # type: ignore[import-untyped]

from outloop.store.confinement import confine, limit

DAYS = 7
EVERYTHING = "all"
# Table → the column whose values begin with their time.
_TIMED = {"audit": "id", "decisions": "id", "outcomes": "decision_id"}


@hookimpl  # type: ignore[untyped-decorator]
def prepare_connection(conn: Any, database: str) -> None:
    """Confine the connections to the record. Datasette's own database, in memory, holds nothing of it, and has to be written."""
    if database == "audit":
        confine(conn)
    else:
        limit(conn)


@hookimpl  # type: ignore[untyped-decorator]
def filters_from_request(request: Any, table: str) -> Any:
    """Show the last days only, unless ``?_days=`` says how many or ``all``: counts and facets read every row that is shown."""
    if table not in _TIMED or _TIMED[table] in request.args:
        return None
    asked = request.args.get("_days") or str(DAYS)
    if asked == EVERYTHING:
        return None
    days = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 6 else DAYS
    condition = f"{_TIMED[table]} >= days_ago({days})"
    return FilterArguments(
        [condition], human_descriptions=[f"time is in the last {days} days" if days != 1 else "time is in the last day"]
    )
