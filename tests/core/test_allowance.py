from __future__ import annotations

from outloop.core.allowance import Allowance


def test_a_number_at_once_and_then_so_many_a_second() -> None:
    allowance = Allowance(burst=3, per_s=2)

    assert [allowance.take(100.0) for _ in range(5)] == [True, True, True, False, False]
    assert [allowance.take(100.6) for _ in range(2)] == [True, False]
    assert [allowance.take(200.0) for _ in range(4)] == [True, True, True, False]


def test_a_clock_that_goes_back_gives_nothing() -> None:
    allowance = Allowance(burst=1, per_s=1)

    assert [allowance.take(50.0), allowance.take(10.0), allowance.take(11.0)] == [True, False, True]
