"""Every table by its name, in the order of the model of threats."""

from __future__ import annotations

from importlib import import_module

from outloop.attacks.case import Case

TABLES = ("calling", "asking", "normalising", "framing", "mutations", "smuggling", "returning", "around")


def cases_of(table: str) -> tuple[Case, ...]:
    """Return the rows of *table*."""
    cases: tuple[Case, ...] = import_module(f"outloop.attacks.{table}").CASES
    return cases
