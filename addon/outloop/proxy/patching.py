"""How a function of mitmproxy's is wrapped: in place, once per process, its signature left readable."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import wraps
from typing import Any

Steps = Generator[Any, Any, Any]
Handler = Callable[[Any, Any], Steps]


def wrap(owner: Any, name: str, around: Callable[[Any], Any]) -> None:
    """Put ``around(original)`` in the place of *owner*'s *name*; a second call changes nothing."""
    original = getattr(owner, name)
    if not getattr(original, "is_outloops", False):
        wrapper = wraps(original)(around(original))
        wrapper.is_outloops = True  # type: ignore[attr-defined]
        setattr(owner, name, wrapper)
