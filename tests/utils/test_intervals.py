"""Intervals and the paired test, against published and hand-counted values."""

import pytest

from utils.intervals import Proportion, paired_test, wilson


@pytest.mark.parametrize(
    ("successes", "n", "expected"),
    [
        pytest.param(46, 50, (0.812, 0.968), id="the original's 0.92 of 50"),
        pytest.param(0, 10, (0.0, 0.278), id="none right"),
        pytest.param(10, 10, (0.722, 1.0), id="all right"),
        pytest.param(0, 0, (0.0, 1.0), id="nothing counted"),
    ],
)
def test_an_interval_is_the_one_that_wilson_s_formula_gives(successes, n, expected):
    assert wilson(successes, n) == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize("n", [1, 7, 300, 1000])
def test_a_share_never_lies_outside_its_own_interval(n):
    for successes in range(n + 1):
        rate = Proportion(successes, n)
        low, high = rate.interval
        assert 0 <= low <= rate.value <= high <= 1


def test_ten_rows_gained_and_none_lost_is_no_coin_toss():
    result = paired_test([False] * 10, [True] * 10)
    assert (result.gained, result.lost) == (10, 0)
    assert result.p_value == pytest.approx(2 / 2**10)


def test_no_change_proves_nothing():
    assert paired_test([True, False], [True, False]).p_value == 1.0


def test_rows_without_two_answers_count_neither_way_and_are_told():
    result = paired_test([None, True, False, False], [True, None, True, False])
    assert str(result).startswith("1 rows gained, 0 rows lost")
    assert str(result).endswith("2 rows without two answers left out")


def test_runs_of_different_length_are_refused():
    with pytest.raises(ValueError, match="Evaluate both models with one config"):
        paired_test([True], [True, False])
