"""The runner sees what it is there to see: each of these expects something else than what is so."""

from __future__ import annotations

import pytest

from outloop.attacks.around import CASES as AROUND
from outloop.attacks.asking import CASES as ASKING
from outloop.attacks.calling import CASES as CALLING
from outloop.attacks.case import TOKEN, Case, Heard, forwarded, request, tunnel
from outloop.attacks.framing import CASES as FRAMING
from outloop.attacks.mutations import CASES as MUTATIONS
from outloop.attacks.normalising import CASES as NORMALISING
from outloop.attacks.returning import CASES as RETURNING
from outloop.attacks.runner import Runner
from outloop.attacks.smuggling import CASES as SMUGGLING

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
    for table in (CALLING, ASKING, FRAMING, MUTATIONS, SMUGGLING, NORMALISING, RETURNING, AROUND):
        names = [case.id for case in table]
        assert sorted(set(names)) == sorted(names)
        assert all(case.promise in {f"G{number}" for number in range(1, 10)} for case in table)


def test_a_header_is_found_in_any_case() -> None:
    assert Heard(200, (("X-Echo", TOKEN),)).header("x-echo") == TOKEN
