from __future__ import annotations

import pytest

from outloop.attacks.case import Case
from outloop.attacks.normalising import CASES
from outloop.attacks.runner import Runner


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_promise_holds(case: Case, runner: Runner) -> None:
    wrong = runner.run(case)

    assert not wrong, "\n".join(wrong)
