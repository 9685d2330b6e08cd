"""A Datasette plugin: what an agent wrote is shown, never made into a link that an operator could follow by mistake."""

from __future__ import annotations

from datasette import hookimpl  # type: ignore[import-untyped]


@hookimpl  # type: ignore[untyped-decorator]
def render_cell(value: object) -> str | None:
    """Return texts as they are (Datasette escapes them); everything else is Datasette's to show."""
    return value if isinstance(value, str) and value.strip().lower().startswith(("http:", "https:")) else None
