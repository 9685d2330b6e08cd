"""A Datasette plugin: what is said when there is no page to show. Nothing of the record, and no traceback."""

from __future__ import annotations

import sys
from typing import Any

from datasette import hookimpl  # type: ignore[import-untyped]
from datasette.utils.asgi import Base400, Response  # type: ignore[import-untyped]
from datasette.views.base import DatasetteError  # type: ignore[import-untyped]

_TOO_LONG = "This query took too long: narrow it, by id >= days_ago(7) for example."


@hookimpl(tryfirst=True)  # type: ignore[untyped-decorator]
def forbidden() -> Any:
    """Answer who is not signed in, or not any more, without a page that names what there is."""
    return Response.text(
        "outloop: error: this is for whoever opened the sign-in address\n"
        "outloop: hint: it works once; `outloop audit browse`, started anew, prints another\n",
        status=403,
    )


@hookimpl  # type: ignore[untyped-decorator]
def handle_exception(datasette: Any, request: Any, exception: Exception) -> Any:
    """Answer with a page that says what is wrong, or with JSON where that was asked for."""
    status, message = _explained(exception)

    async def answer() -> Any:
        if request.path.partition("?")[0].endswith(".json"):
            return Response.json({"ok": False, "error": message, "status": status}, status=status)
        page = await datasette.render_template("error.html", {"status": status, "error": message}, request=request)
        return Response.html(page, status=status)

    return answer


def _explained(exception: Exception) -> tuple[int, str]:
    if isinstance(exception, Base400):
        return exception.status, str(exception.args[0] if exception.args else "")
    if isinstance(exception, DatasetteError):
        return min(exception.status, 400), _TOO_LONG if exception.message_is_html else str(exception.message)
    print(f"outloop: error: a page could not be made: {type(exception).__name__}", file=sys.stderr)
    return 500, "This page could not be made."
