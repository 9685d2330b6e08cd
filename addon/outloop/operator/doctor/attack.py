"""`outloop doctor --attack`: does this installation hold against every attack that Outloop's own tests know?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from outloop.attacks import tables
from outloop.attacks.tables import cases_of

if TYPE_CHECKING:
    from outloop.attacks.siege import Attack, Result

TABLES = tables.TABLES
PROMISES = {
    "G1": "no key comes back",
    "G2": "keys go where they belong",
    "G3": "what matched is what leaves",
    "G4": "every failure refuses",
    "G5": "a row before a byte",
    "G6": "refused, nothing is touched",
    "G7": "workspaces stay apart",
    "G8": "no key at rest",
    "G9": "no agent widens its reach",
}
_LONGEST = 600  # of one piece of evidence


@dataclass(frozen=True, slots=True)
class Failure:
    """An attack that was not met as it should be. Any credential in it is made up and was thrown away."""

    table: str
    case: str
    promise: str
    expected: str
    evidence: tuple[str, ...]
    basis: str


@dataclass(frozen=True, slots=True)
class Group:
    """The cases of one table that would break one promise; `limits` of them document what is accepted.

    Where the attack was stopped early, some have neither `passed` nor `failed`.
    """

    table: str
    promise: str
    cases: int
    passed: int
    limits: int
    failures: tuple[Failure, ...]


def attack(
    names: Sequence[str], environ: Mapping[str, str], begin: Callable[[int], None], report: Callable[[bool], None]
) -> tuple[Group, ...]:
    """Attack this installation with every case of the tables *names*, and return how each group of them went.

    Nothing of the operator's is used but the programs and *environ*: no home, keychain, record or running proxy. *begin* is
    told how many cases there are, *report* of each whether it was met. Raises NoError when the proxy does not start.
    """
    from outloop.attacks.siege import besiege

    attacks = [(table, case) for table in names for case in cases_of(table)]
    begin(len(attacks))
    results: list[Result] = []

    def take(result: Result) -> None:
        results.append(result)
        report(not result.wrong)

    besiege(attacks, environ, take)
    return tuple(_groups(attacks, results))


def _groups(attacks: Sequence[Attack], results: Sequence[Result]) -> list[Group]:
    groups = sorted({(table, case.promise) for table, case in attacks}, key=lambda each: (TABLES.index(each[0]), each[1]))
    return [_group(name, attacks, [each for each in results if (each.table, each.case.promise) == name]) for name in groups]


def _group(name: tuple[str, str], attacks: Sequence[Attack], results: Sequence[Result]) -> Group:
    cases = [case for table, case in attacks if (table, case.promise) == name]
    passed = sum(not result.wrong for result in results)
    failures = sorted((_failure(result) for result in results if result.wrong), key=lambda failure: failure.case)
    return Group(*name, len(cases), passed, sum(bool(case.limit) for case in cases), tuple(failures))


def _failure(result: Result) -> Failure:
    case = result.case
    answer = f"{case.status} {case.reason}".strip() if case.status else "no answer"
    rows = ", ".join(" ".join(row) for row in case.expected_rows) or "none"
    reaching = f"{len(case.upstream)} reach the upstream" if case.upstream else "nothing reaches the upstream"
    evidence = tuple(said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…" for said in result.wrong)
    return Failure(result.table, case.id, case.promise, f"{answer}; {reaching}; rows: {rows}", evidence, case.basis)
