"""What is usual of photos, and windows of photos that are not: on made photos whose groups differ."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest

from plantops.drift import ASPECTS, Usual
from plantops.ml.drawn import Grouped
from plantops.ml.drift import Held, learn
from plantops.serve.windows import Windows

CLASSES, SIZE = ("Tomato___healthy", "Tomato___Late_blight", "Corn___rust"), 16


def made(groups: int, seed: int, lighter: float = 0, moved: float = 0) -> Held:
    """Six photos a group; the groups differ in light, and in what the network sees of them."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), 6)
    answers = rng.integers(0, 3, groups)[group]
    light = 110 + lighter + rng.normal(0, 6, groups)[group, None, None, None] + 10 * answers[:, None, None, None]
    pixels = (light + rng.normal(0, 30, (len(group), SIZE, SIZE, 3))).clip(0, 255).astype(np.uint8)
    embeddings = rng.normal(0, 0.3, (groups, 12))[group] + rng.normal(0, 1, (len(group), 12)) + answers[:, None]
    embeddings[:, :3] += moved
    return Held(
        pixels, embeddings.astype(np.float32), rng.chisquare(12, len(group)), rng.beta(8, 2, len(group)), answers,
        group, 3,
    )  # fmt: skip


def over(usual: Usual, held: Held, size: int, count: int = 400) -> dict[str, float]:
    """Share of windows over the limit, by aspect, and in ``any``."""
    each = zip(held.pixels, held.embeddings, held.confidence, held.distances, held.answers, strict=True)
    odd = np.stack([usual.odd(usual.photo(*one[:4]), int(one[4])) for one in each])
    values = np.concatenate([odd, np.eye(3)[held.answers]], 1)
    drawn = Grouped.of(values, held.groups).windows(size, count, np.random.default_rng(7))
    cut = odd.shape[1]
    found = np.stack([usual.over(size, one[:cut], one[cut:]) for some, _ in drawn for one in some]) > 1
    return {**dict(zip(ASPECTS, found.mean(0).tolist(), strict=True)), "any": float(found.any(1).mean())}


@pytest.fixture(scope="module")
def usual() -> Usual:
    found = learn(made(90, 1))
    assert found is not None
    assert found.sizes.tolist() == [100, 200]
    return found


def test_photos_of_the_same_kind_are_seldom_over_a_limit(usual: Usual) -> None:
    rates = [over(usual, made(90, seed), 100)["any"] for seed in (2, 3, 4)]
    assert np.mean(rates) <= 4 * usual.rate, rates


def test_what_moves_is_found_and_named(usual: Usual) -> None:
    lighter = over(usual, made(90, 2, lighter=12), 100)
    assert lighter["brightness"] > 0.9
    assert lighter["contrast"] < 0.1
    assert over(usual, made(90, 2, moved=1.5), 200)["embedding"] > 0.9


def test_another_mix_of_classes_moves_nothing_else(usual: Usual) -> None:
    held = made(90, 2)
    one = held.answers == 1
    rare = replace(
        held, **{name: getattr(held, name)[one] for name in vars(held) if name not in ("classes", "groups")},
        groups=np.unique(held.groups[one], return_inverse=True)[1],
    )  # fmt: skip
    found = over(usual, rare, 200)
    assert found["classes"] == found["class"] == 1.0
    assert found["brightness"] < 0.1


def test_the_class_that_departs_is_named(usual: Usual) -> None:
    service = Windows(usual, CLASSES)
    first = service.each[0]

    def hundred(answers: np.ndarray) -> float:
        for answer in answers:
            service.add(np.zeros(usual.means.shape[1]), int(answer))
        return float(first.row[ASPECTS.index("class")])

    def named() -> list[str]:
        return [one for one in service.words() if "answered" in one]

    even, ones, zeros = np.arange(100) % 3, np.ones(100), np.zeros(100)
    assert [hundred(one) for one in (even, ones, zeros)] == [0, 1, 1], "twice, but not the same class"
    assert named() == []
    assert hundred(zeros) == 2
    more = f"{1 - usual.mix[0]:+.0%}"
    assert named() == [f"more often answered {CLASSES[0]} ({more}), in 2 times 100 photos"]
    assert (first.classes > 1).tolist() == [True, False, False]


def test_a_bundle_of_before_has_no_limit_for_one_class(usual: Usual) -> None:
    arrays = usual.arrays()
    del arrays["drift_spread"]
    old = Usual.read(arrays | {"drift_limits": usual.limits[:, :-1]})
    assert old is not None
    odd, counts = np.zeros(usual.means.shape[1]), np.array([100.0, 0, 0])
    assert old.over(100, odd, counts)[:-1] == pytest.approx(usual.over(100, odd, counts)[:-1])
    assert old.over(100, odd, counts)[-1] == 0
    assert usual.over(100, odd, counts)[-1] == pytest.approx(usual.over_by_class(100, counts).max())
    assert usual.over_by_class(100, counts).max() > 1


def test_too_few_photos_or_groups_say_nothing() -> None:
    assert learn(made(30, 1)) is None
    assert learn(replace(made(90, 1), groups=np.repeat(np.arange(10), 54))) is None


@pytest.mark.parametrize(("small", "each", "sizes"), [(100, 3, [100, 200]), (60, 3, [100]), (19, 1, [])])
def test_a_size_whose_windows_hold_all_groups_is_left_out(small: int, each: int, sizes: list[int]) -> None:
    held = made(140, 1)  # nearly all in one group: without that one, there are only small ones
    found = learn(replace(held, groups=np.minimum(np.arange(len(held.answers)) // each, small)))
    assert (found.sizes.tolist() if found else []) == sizes
    assert found is None or np.isfinite(found.limits).all()


def test_it_goes_through_a_file(usual: Usual) -> None:
    file = io.BytesIO()
    np.savez(file, mean=np.zeros(3), **usual.arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        again = Usual.read(arrays)
    assert again is not None
    assert again.rate == usual.rate
    assert all(np.array_equal(one, usual.arrays()[name]) for name, one in again.arrays().items())
    assert Usual.read({"mean": np.zeros(3)}) is None
    with pytest.raises(KeyError):
        Usual.read({"drift_axes": np.zeros((3, 1))})


def test_one_odd_window_says_nothing_and_two_in_a_row_do(usual: Usual) -> None:
    service = Windows(usual, CLASSES)
    usually, lighter = np.zeros(usual.means.shape[1]), np.zeros(usual.means.shape[1])
    lighter[0] = 30

    def hundred(odd: np.ndarray) -> None:
        answers = np.random.default_rng(3).choice(3, 100, p=usual.mix / usual.mix.sum())
        full = [window for answer in answers for window in service.add(odd, int(answer))]
        assert full[0].size == 100

    for odd in (usually, lighter, usually, usually, lighter):
        hundred(odd)
        assert service.words() == []
    hundred(lighter)
    assert service.words() == ["brighter than what it learned from, in 2 times 100 photos"]
    for _ in range(3):
        hundred(usually)
    assert service.words() == []
    assert [window.ended for window in service.each] == [9, 4]
