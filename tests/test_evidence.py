"""The gate's statistics, against SciPy and published examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from plantops.gate import Answer, accuracy, evidence, macro_f1
from plantops.gate.pairs import Pairs

COUNTS = st.integers(0, 60)


@given(right=COUNTS, wrong=COUNTS, confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_that_of_scipy(right: int, wrong: int, confidence: float) -> None:
    if right + wrong == 0:
        return
    found = evidence.wilson(right, right + wrong, confidence)
    expected = stats.binomtest(right, right + wrong).proportion_ci(confidence, "wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(
    ("cells", "low", "high"),
    [((36, 12, 2, 0), 0.0569, 0.3404), ((36, 14, 0, 0), 0.1528, 0.4167), ((54, 0, 0, 0), -0.0664, 0.0664)],
)
def test_newcombe_gives_the_published_intervals(cells: tuple[int, int, int, int], low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17:2635, the table of examples, method 10."""
    found = evidence.newcombe(cells, 0.95)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_newcombe_covers_as_often_as_it_says() -> None:
    dice, shares = np.random.default_rng(3), np.array([0.85, 0.03, 0.07, 0.05])
    tables = dice.multinomial(60, shares, size=2000)
    bounds = [evidence.newcombe(tuple(map(int, one)), 0.95) for one in tables]
    covered = np.mean([one.low <= shares[1] - shares[2] <= one.high for one in bounds])
    assert 0.94 < covered < 0.99


@given(gained=COUNTS, lost=COUNTS)
def test_mcnemar_is_the_exact_test_less_half_of_what_was_seen(gained: int, lost: int) -> None:
    if gained == lost:
        assert evidence.mcnemar(gained, lost) == 1
        return
    exact = stats.binomtest(gained, gained + lost, 0.5).pvalue
    assert evidence.mcnemar(gained, lost) == pytest.approx(exact - stats.binom.pmf(gained, gained + lost, 0.5))


@pytest.mark.parametrize("freedom", [3, 5, 11, 40, 1000])
@pytest.mark.parametrize("share", [0.9, 0.975, 0.995])
def test_student_is_that_of_scipy(share: float, freedom: int) -> None:
    assert evidence.student(share, freedom) == pytest.approx(stats.t.ppf(share, freedom), rel=0.02)


def test_photos_of_one_group_count_for_as_much_as_they_say() -> None:
    values, units = [1.0, 0.0] * 20, list(range(40))
    assert evidence.design_effect(values, units) == pytest.approx(1, abs=0.01)
    copies = evidence.design_effect([one for one in values for _ in range(5)], [one for one in units for _ in range(5)])
    assert copies == pytest.approx(5, rel=0.05)
    assert evidence.design_effect([1.0] * 9, list(range(9))) == 1


def answers(dice: np.random.Generator, photos: int, groups: int, errors: float) -> list[Answer]:
    wrong = dice.random(photos) < errors
    kind = np.arange(photos) % 4
    said = (kind + wrong * dice.integers(1, 4, photos)) % 4
    group = np.arange(photos) * groups // photos
    return [Answer(str(n), str(kind[n]), str(said[n]), str(group[n])) for n in range(photos)]


def test_the_bootstrap_is_that_of_scipy() -> None:
    """Differences of accuracy, photo by photo; the widening for few groups is small among 200."""
    dice = np.random.default_rng(7)
    ours, theirs = answers(dice, 200, 200, 0.2), answers(dice, 200, 200, 0.1)
    pairs = Pairs(tuple(ours), tuple(theirs))
    found = pairs.scores(0.95)["accuracy"]
    expected = stats.bootstrap(
        (np.array([*pairs.changes, 1, -1]),), np.mean, method="percentile", n_resamples=5000, rng=dice
    ).confidence_interval
    assert (found.bounds.low, found.bounds.high) == pytest.approx((expected.low, expected.high), abs=0.012)
    assert found.difference == pytest.approx(accuracy(ours) - accuracy(theirs))


def test_summed_counts_give_the_scores_themselves() -> None:
    """Drawing every group once is the sample: what the bootstrap computes are accuracy and macro-F1."""
    from plantops.gate.pairs import _differences

    dice = np.random.default_rng(2)
    ours, theirs = answers(dice, 90, 15, 0.3), answers(dice, 90, 15, 0.2)
    counts = Pairs(tuple(ours), tuple(theirs))._counts()[:-2]
    found = _differences(counts.sum(0, keepdims=True))[0]
    expected = [accuracy(ours) - accuracy(theirs), macro_f1(ours) - macro_f1(theirs)]
    assert found == pytest.approx(expected)


def test_grouped_photos_widen_the_bounds() -> None:
    dice = np.random.default_rng(4)
    alone = answers(dice, 40, 40, 0.2), answers(dice, 40, 40, 0.2)
    eight = [[Answer(f"{one.photo}-{n}", *_rest(one)) for one in side for n in range(8)] for side in alone]
    apart = [[Answer(one.photo, one.actual, one.predicted) for one in side] for side in eight]
    grouped, ungrouped = (Pairs(*map(tuple, side)).scores(0.95)["accuracy"].bounds for side in (eight, apart))
    assert (grouped.high - grouped.low) > 2 * (ungrouped.high - ungrouped.low)


def _rest(one: Answer) -> tuple[str, str, str]:
    return one.actual, one.predicted, one.group


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), photos=st.integers(2, 60), groups=st.integers(1, 60))
def test_the_bootstrap_is_a_function_of_its_input(seed: int, photos: int, groups: int) -> None:
    dice = np.random.default_rng(seed)
    pairs = Pairs(
        tuple(answers(dice, photos, min(groups, photos), 0.2)), tuple(answers(dice, photos, min(groups, photos), 0.2))
    )
    assert pairs.scores(0.95) == pairs.scores(0.95)
