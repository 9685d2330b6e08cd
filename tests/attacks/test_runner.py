"""The runner sees what it is there to see: each of these expects something else than what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from outloop.attacks import tables
from outloop.attacks.case import TOKEN, Case, Heard, forwarded, request, tunnel
from outloop.attacks.runner import Runner
from outloop.attacks.tables import TABLES, cases_of
from outloop.operator.doctor.attack import PROMISES

ASKED = tunnel(request("/a"))
SENT = (forwarded("/a"),)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        pytest.param(Case("status", "G4", ASKED, 403, "OK", SENT), "the agent got 200, not 403", id="another-status"),
        pytest.param(Case("body", "G4", ASKED, 200, "OK", SENT, body=b"no"), "the agent got the body", id="another-body"),
        pytest.param(Case("reason", "G4", tunnel(request("/private/1")), 403, "path_not_allowed"), "was told",
        id="another-reason"),
        pytest.param(Case("dialled", "G6", ASKED, 200, "OK"), "a connection was opened", id="a-connection"),
        pytest.param(Case("sent", "G6", ASKED, 200, "OK"), "the upstream got", id="a-request"),
        pytest.param(Case("bytes", "G3", ASKED, 200, "OK", (forwarded("/b"),)), "the upstream got", id="other-bytes"),
        pytest.param(Case("rows", "G5", ASKED, 200, "OK", SENT, rows=()), "the rows are", id="a-row"),
        pytest.param(Case("check", "G1", ASKED, 200, "OK", SENT, check=lambda heard: "odd"), "odd", id="what-a-check-says"),
    ],
)  # fmt: skip
def test_a_difference_is_said(case: Case, said: str, runner: Runner) -> None:
    assert any(said in wrong for wrong in runner.run(case))


def test_every_case_has_a_name_of_its_own() -> None:
    for table in map(cases_of, TABLES):
        names = [case.id for case in table]
        assert sorted(set(names)) == sorted(names)
        assert all(case.promise in PROMISES for case in table)


def test_every_table_is_shipped() -> None:
    modules = Path(tables.__file__).parent.glob("*.py")

    assert sorted(TABLES) == sorted(module.stem for module in modules if re.search(r"^CASES\b", module.read_text(), re.MULTILINE))


def test_a_header_is_found_in_any_case() -> None:
    assert Heard(200, (("X-Echo", TOKEN),)).header("x-echo") == TOKEN
