"""How the cases are shared out."""

from __future__ import annotations

from itertools import chain

from outloop.attacks.siege import blocks_of
from outloop.attacks.tables import TABLES, cases_of

ATTACKS = [(table, case) for table in TABLES for case in cases_of(table)]


def test_every_case_is_run_once_and_none_without_the_case_that_it_needs() -> None:
    blocks = blocks_of(ATTACKS)

    assert list(chain(*blocks)) == ATTACKS
    assert any(case.follows for _, case in ATTACKS)
    assert not any(block[0][1].follows for block in blocks)
