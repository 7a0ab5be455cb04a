"""The split: no leak, no class without training, and new data moves nothing that it does not touch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plantops import near
from plantops.errors import StepFailed
from plantops.ml import split
from plantops.ml.split import Grouping, Sides

from . import in_memory

quick = settings(deadline=None, max_examples=60)
REGEX = r"___(.+ \d*)\d\d\.\w+$"
# group -> class -> photos; groups may span classes.
SHARED = st.dictionaries(
    st.integers(0, 40).map(str),
    st.dictionaries(st.sampled_from("ABCD"), st.integers(1, 9), min_size=1),
    min_size=1,
)
SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=25)
SHARES = st.tuples(st.sampled_from([0.0, 0.1, 0.15, 0.3]), st.sampled_from([0.0, 0.1, 0.15, 0.3]))


def assign(members: dict[str, dict[str, int]], seed: int, val: float, test: float) -> dict[str, str]:
    sides = Sides(members.items, seed, val, test)
    return {group: sides.of(group) for group in members}


def grouped(paths: list[str], group_by: str | None, raw: Path) -> dict[str, str | None]:
    return dict(zip(paths, Grouping(group_by, raw, raw).of(paths), strict=True))


def own(label: str, sizes: list[int]) -> dict[str, dict[str, int]]:
    return {f"{label}{number}": {label: size} for number, size in enumerate(sizes)}


def photos(members: dict[str, dict[str, int]], splits: dict[str, str]) -> Counter[tuple[str, str]]:
    count: Counter[tuple[str, str]] = Counter()
    for group, classes in members.items():
        for label, number in classes.items():
            count[label, splits[group]] += number
    return count


@quick
@given(SHARED, st.integers(0, 99), SHARES)
def test_every_class_is_trained_on_whatever_groups_it_shares(members, seed, shares) -> None:  # type: ignore[no-untyped-def]
    splits = assign(members, seed, *shares)
    assert splits.keys() == members.keys()
    count = photos(members, splits)
    labels = {label for classes in members.values() for label in classes}
    assert all(count[label, "train"] for label in labels)
    assert splits == assign(dict(reversed(members.items())), seed, *shares)


@quick
@given(SHARED, st.integers(0, 99), SHARES)
def test_nothing_depends_on_what_is_in_memory(members, seed, shares) -> None:  # type: ignore[no-untyped-def]
    assert assign(members, seed, *shares) == in_memory.assign(members, seed, *shares)


@quick
@given(SIZES, SIZES, SIZES, st.integers(0, 99))
def test_a_new_class_moves_nothing(a, b, new, seed) -> None:  # type: ignore[no-untyped-def]
    before = assign(own("A", a) | own("B", b), seed, 0.15, 0.15)
    after = assign(own("A", a) | own("AA", new) | own("B", b), seed, 0.15, 0.15)
    assert {group: after[group] for group in before} == before


@quick
@given(SIZES, st.integers(0, 99))
def test_a_class_has_what_its_groups_allow(sizes, seed) -> None:  # type: ignore[no-untyped-def]
    members = own("A", sizes)
    count = photos(members, assign(members, seed, 0.15, 0.15))
    assert bool(count["A", "train"])
    assert bool(count["A", "test"]) == (len(sizes) >= 2)
    assert bool(count["A", "val"]) == (len(sizes) >= 3)


@quick
@given(st.lists(st.integers(1, 4), min_size=40, max_size=60), st.integers(0, 99))
def test_many_small_groups_give_every_split_at_least_half_its_share(sizes, seed) -> None:  # type: ignore[no-untyped-def]
    count = photos(own("A", sizes), assign(own("A", sizes), seed, 0.15, 0.15))
    assert count["A", "test"] >= 0.075 * sum(sizes)
    assert count["A", "val"] >= 0.075 * sum(sizes)
    assert count["A", "train"] >= 0.35 * sum(sizes)


def test_more_photos_of_known_leaves_move_nothing() -> None:
    sizes = [4] * 60
    assert assign(own("A", sizes), 1, 0.15, 0.15) == assign(own("A", [7, *sizes[1:]]), 1, 0.15, 0.15)


def test_most_groups_stay_when_leaves_come() -> None:
    before = assign(own("A", [4] * 60), 1, 0.15, 0.15)
    after = assign(own("A", [4] * 80), 1, 0.15, 0.15)
    assert all(after[group] == before[group] for group in before)


def test_a_large_group_does_not_empty_training() -> None:
    for seed in range(30):
        count = photos(own("A", [90, 10]), assign(own("A", [90, 10]), seed, 0.15, 0.15))
        assert count["A", "train"] == 90


def test_without_a_share_for_the_test_nothing_goes_there() -> None:
    assert set(assign(own("A", [3] * 20), 1, 0.0, 0.0).values()) == {"train"}


def test_groups_by_regular_expression(tmp_path: Path) -> None:
    names = grouped(["A/x___RS_HL 1834.jpg", "B/odd.jpg", "B/y___RS_HL 1899.JPG"], REGEX, tmp_path)
    assert names == {"A/x___RS_HL 1834.jpg": "RS_HL 18", "B/odd.jpg": None, "B/y___RS_HL 1899.JPG": "RS_HL 18"}


def test_several_groups_are_joined_without_confusion(tmp_path: Path) -> None:
    names = grouped(["a_bc.jpg", "ab_c.jpg"], r"(\w+)_(\w+)", tmp_path)
    assert names["a_bc.jpg"] != names["ab_c.jpg"]


def test_groups_by_csv(tmp_path: Path) -> None:
    listed = 'path,group\nB/2.jpg,leaf 0\nA/0.jpg,gone\n"A/1, old.jpg",leaf 1\nB/2.jpg,leaf 1\n'
    (tmp_path / "leaves.csv").write_text(listed)
    names = grouped(["A/1, old.jpg", "A/2.jpg", "B/2.jpg", "B/3.jpg"], "leaves.csv", tmp_path)
    assert names == {"A/1, old.jpg": "leaf 1", "A/2.jpg": None, "B/2.jpg": "leaf 1", "B/3.jpg": None}, "the last line"
    (tmp_path / "other.csv").write_text("file,leaf\n")
    with pytest.raises(StepFailed, match="columns path and group"):
        grouped(["A/1"], "other.csv", tmp_path)
    with pytest.raises(StepFailed, match="not there"):
        grouped(["A/1"], "missing.csv", tmp_path)


def united(names: dict[str, str], hashes: dict[str, str]) -> tuple[dict[str, str], int]:
    """The group of each path, as prepare_data has it from the groups and from what is shown."""
    paths = list(names)
    clusters = [{names[paths[at]] for at in one} for one in near.clusters(hashes[path] for path in paths)]
    sizes = Counter(names.values())
    called, divided = split.tied(clusters, sizes, len(sizes))
    return {path: called.get(group, group) for path, group in names.items()}, divided


def test_groups_that_hold_one_picture_twice_are_one_and_chains_of_alike_ones_stay() -> None:
    rng = np.random.default_rng(3)
    far = [rng.bytes(32).hex() for _ in range(40)]
    near_by = f"{int(far[0], 16) ^ 0b1011:064x}"
    names = {"a1": "A", "a2": "A", "b1": "B", "c1": "C", "d1": "D"}
    hashes = {"a1": far[0], "a2": far[1], "b1": near_by, "c1": far[2], "d1": ""}
    assert united(names, hashes) == ({**names, "b1": "A"}, 0), "called as the larger one"
    assert united({**names, "c1": "A"}, {**hashes, "d1": far[2]})[0] == dict.fromkeys(names, "A"), "by steps"
    alike = {f"p{n}": f"G{n}" for n in range(40)}
    tied, divided = united(alike, {path: far[0 if n < 11 else n] for n, path in enumerate(alike)})
    assert (tied, divided) == (alike, 11)
    tied, divided = united(alike, {path: far[0 if n < 10 else n] for n, path in enumerate(alike)})
    assert (len(set(tied.values())), divided) == (31, 0)


def test_no_grouping_makes_every_photo_its_own(tmp_path: Path) -> None:
    assert grouped(["A/1", "A/2"], None, tmp_path) == {"A/1": None, "A/2": None}
