"""What every shape of a policy file is made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

LONGEST_LINE = 2048

Line = Annotated[str, Field(min_length=1, max_length=LONGEST_LINE)]
WhereScalar = str | int | float | bool | None


def optional(description: str, **constraints: Any) -> Any:
    """Return a field that may be left out; null is not a way to leave it out."""
    return Field(default=None, description=description, **constraints)


class Shape(BaseModel):
    """A mapping with known fields: any other is refused, and no value is converted into another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
