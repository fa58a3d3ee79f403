"""Intervals and paired tests against numbers worked out by hand or by an exact count."""

from __future__ import annotations

import math

import pytest

from lightreasoner.errors import UserError
from lightreasoner.scoring.significance import compare, mcnemar, wilson


def test_wilson_against_its_formula_solved_by_hand():
    """8 of 10: the roots of (x − 0.8)² = z²·x(1 − x)/10, with z² = 3.841459."""
    z2 = 3.841458820694124
    a, b, c = 1 + z2 / 10, -(1.6 + z2 / 10), 0.64
    root = math.sqrt(b * b - 4 * a * c)
    assert wilson(8, 10) == pytest.approx(((-b - root) / (2 * a), (-b + root) / (2 * a)))


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (0, 0), (1, 1), (250, 500)])
def test_wilson_holds_the_share_and_stays_within_bounds(right, n):
    low, high = wilson(right, n)
    assert 0 <= low <= (right / n if n else 0.5) <= high <= 1
    assert low < high


def test_mcnemar_by_counting_coin_flips():
    """9 gained, 1 lost: 2·(C(10,0) + C(10,1)) / 2¹⁰ = 22/1024."""
    assert mcnemar(9, 1) == pytest.approx(22 / 1024)
    assert mcnemar(1, 9) == mcnemar(9, 1)
    assert mcnemar(0, 0) == mcnemar(3, 3) == 1.0
    assert 0 < mcnemar(3000, 2000) < 1e-40  # 2⁵⁰⁰⁰ overflows a float


def test_flips_both_ways_and_an_interval_around_the_difference():
    before = {str(n): n % 2 == 0 for n in range(100)}  # 50 right
    after = before | {str(n): True for n in range(1, 41, 2)} | {"0": False, "2": False}  # 20 gained, 2 lost
    found = compare(before, after)
    assert (found.problems, found.before, found.after) == (100, 0.5, 0.68)
    assert set(found.gained) == {str(n) for n in range(1, 41, 2)}
    assert found.lost == ("0", "2")
    assert found.difference == pytest.approx(0.18)
    # the standard error of the difference is √(0.22 − 0.18²)/10 = 0.0433
    assert found.low == pytest.approx(0.18 - 1.96 * 0.0433, abs=0.012)
    assert found.high == pytest.approx(0.18 + 1.96 * 0.0433, abs=0.012)
    assert compare(before, after) == found, "the same seed, the same interval"


def test_only_common_problems_count():
    found = compare({"a": True, "b": False}, {"b": True, "c": False})
    assert (found.problems, found.gained, found.lost) == (1, ("b",), ())
    with pytest.raises(UserError, match="no problem in common"):
        compare({"a": True}, {"b": True})
