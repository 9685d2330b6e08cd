"""Times on the command line: ages and dates."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import click

from outloop.core.ledger import timestamp

_AGE = re.compile(r"(\d{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Moment(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.3
    """An age (``30m``) or a UTC time (``2026-01-31``, ``2026-01-31T12:00``), as the `at` of a row of that moment."""

    name = "moment"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return UTC ISO 8601."""
        text = str(value)
        age = _AGE.fullmatch(text)
        try:
            if age:
                return timestamp(int((time.time() - int(age[1]) * _SECONDS[age[2]]) * 1000))
            moment = datetime.fromisoformat(text)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
            return timestamp(int(moment.timestamp() * 1000))
        except (ValueError, OverflowError, OSError):
            self.fail(f"{text!r} is neither an age such as 30m, 12h or 7d nor a date such as 2026-01-31", param, ctx)


class Age(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.3
    """An age, such as ``90d``, in seconds."""

    name = "age"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return seconds."""
        age = _AGE.fullmatch(str(value))
        if age is None:
            self.fail(f"{str(value)!r} is not an age such as 90d or 12w", param, ctx)
        return int(age[1]) * _SECONDS[age[2]]
