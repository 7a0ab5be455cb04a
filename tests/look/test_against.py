"""What became of the photos since a release, leaks in the prepared split, and labels that a model contradicts."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from look.scenes import ONE, OTHER, RAW, found, seen
from plantops import look
from plantops.artifacts import COURSE, INDEX, PREDICTIONS
from plantops.config import RulesConfig, load
from plantops.look import rules, suspects
from plantops.look.alike import Alike
from plantops.look.facts import Facts
from plantops.look.photos import Photo
from plantops.look.since import compare
from plantops.ml import predictions
from plantops.ml.predictions import Answers
from plantops.ml.prepared import Photo as Prepared


def photo(path: str, md5: str, problem: str = "") -> Photo:
    return Photo(path, md5, Facts(problem))


def row(path: str, md5: str) -> dict[str, str]:
    return {"path": path, "md5": md5, "class": path.partition("/")[0]}


def test_what_became_of_each_class() -> None:
    release = [row(f"A/{n}.jpg", f"a{n}") for n in range(6)] + [row(f"B/{n}.jpg", f"b{n}") for n in range(4)]
    release += [row(f"Old/{n}.jpg", f"o{n}") for n in range(4)] + [row("Lost/1.jpg", "l1")]
    now = [photo(f"A/{n}.jpg", f"a{n}") for n in (1, 2, 3)]  # a0 gone
    now += [
        photo("A/renamed.jpg", "a4"),
        photo("B/5.jpg", "a5"),
        photo("A/new.jpg", "x"),
        photo("A/bad.jpg", "y", "empty"),
    ]
    now += [photo(f"B/{n}.jpg", f"b{n}") for n in range(4)]
    now += [photo(f"New name/{n}.jpg", f"o{n}") for n in range(3)]
    rows = {one.name: one for one in compare(now, release).classes}
    a = rows["A"]
    assert (a.photos, a.unusable, a.new, a.gone, a.moved, a.came_from, a.went_to) == (6, 1, 1, 1, 1, 0, 1)
    b = rows["B"]
    assert (b.photos, b.new, b.gone, b.moved, b.came_from, b.went_to) == (5, 0, 0, 0, 1, 0)
    assert (rows["Old"].note, rows["New name"].note, rows["Lost"].note) == ("renamed to New name", "was Old", "gone")
    assert (rows["Old"].photos, rows["Old"].gone, rows["Old"].went_to) == (0, 1, 3)
    assert compare(now, release).relabelled == [("B/5.jpg", "A")]


def test_a_class_that_went_and_photos_that_changed_class_are_told() -> None:
    release = [row("A/1.jpg", "a"), row("B/1.jpg", "b"), row("Old/1.jpg", "o"), row("Lost/1.jpg", "l")]
    now = [photo("B/1.jpg", "b"), photo("B/2.jpg", "a"), photo("A/2.jpg", "x"), photo("New/1.jpg", "o")]
    became = compare(now, release)
    nothing = Alike((), ()), became.classes, suspects.Suspects((), 0, 0, 0)
    scene = rules.Scene(now, *nothing, relabelled=became.relabelled)
    every = [one for one in rules.judge(scene, RulesConfig()) if one.rule in ("class_gone", "relabelled")]
    told = [(one.rule, one.level, one.sentence) for one in every]
    assert told == [
        ("class_gone", "warn", "Lost: gone since the release in service"),
        ("class_gone", "warn", "Old: renamed to New since the release in service"),
        ("relabelled", "note", "in another class than for the release in service: 1 photo"),
    ]


def test_a_copy_beside_a_photo_of_the_release_is_no_move() -> None:
    release = [row("A/1.jpg", "a")]
    for paths in (["A/0.jpg", "A/1.jpg"], ["A/1.jpg", "A/2.jpg"]):
        ((only,), _) = compare([photo(path, "a") for path in paths], release)
        assert (only.new, only.gone, only.moved) == (0, 0, 0)
    three = [photo("A/1.jpg", "a"), photo("B/1.jpg", "a"), photo("B/2.jpg", "b")]
    assert compare(three, release).relabelled == []


def prepare(project: Path, splits: dict[str, tuple[str, str]]) -> None:
    """data/prepared/index.csv of what lies there: path -> (group, split); others are by themselves, for training."""
    rows = [
        (at, one.path, one.md5, one.label, *splits.get(one.path, (one.path, "train")))
        for at, one in enumerate(seen(project).photos)
    ]
    (project / INDEX).parent.mkdir(parents=True)
    with (project / INDEX).open("w", newline="") as file:
        csv.writer(file).writerows([("row", "path", "md5", "class", "group", "split"), *rows])


def test_planted_leaks_are_found_and_a_fair_split_has_none(garden: Path) -> None:
    raw = garden / RAW
    Image.open(raw / ONE / "0.jpg").save(raw / ONE / "again.jpg", quality=60)
    fair = {f"{ONE}/0.jpg": ("g", "test"), f"{ONE}/again.jpg": ("h", "test"), f"{ONE}/5.jpg": ("h", "test")}
    prepare(garden, fair)
    assert found(garden).keys() == {"near_copies"}
    shutil.rmtree((garden / INDEX).parent)
    prepare(garden, {**fair, f"{ONE}/5.jpg": ("h", "val"), f"{ONE}/again.jpg": ("h", "train")})
    (leaks,) = [one for one in seen(garden).findings if one.rule == "leaks"]
    assert {frozenset(case.paths) for case in leaks.cases} == {
        frozenset({f"{ONE}/0.jpg", f"{ONE}/again.jpg"}),
        frozenset({f"{ONE}/5.jpg", f"{ONE}/again.jpg"}),
    }
    without = [one for one in look.leaks(load(garden), seen(garden)) if one.rule == "leaks"]
    assert without == [leaks]


def test_a_class_too_small_for_the_gate_is_named_by_the_share_of_tests_and_then_by_the_split(garden: Path) -> None:
    def said() -> list[str]:
        return [one.sentence for one in seen(garden).findings if one.rule == "small_class"]

    assert [one.rpartition(": ")[2] for one in said()] == [f"{ONE} (1 of 8), {OTHER} (1 of 8)"]
    prepare(garden, {f"{ONE}/{n}.jpg": (f"g{n}", "test") for n in range(3)})
    assert [one.rpartition(": ")[2] for one in said()] == [f"{ONE} (3 of 8), {OTHER} (0 of 8)"]
    config = garden / "config.yaml"
    config.write_text(config.read_text().replace("min_support: 10", "min_support: 3"))
    assert [one.rpartition(": ")[2] for one in said()] == [f"{OTHER} (0 of 8)"]


def predict(project: Path, shares: dict[str, float]) -> None:
    """The model's answers on test photos, as evaluate writes them: path -> probability of ONE. One of train, too."""
    listed = [Prepared(at, one.path, one.md5, one.label, "", "test") for at, one in enumerate(seen(project).photos)]
    asked = [one for one in listed if one.path in shares]
    learned = [replace(one, split="train") for one in listed if one.path not in shares][:1]
    both = [np.array([[one, 1 - one] for one in some]) for some in ([shares[one.path] for one in asked], [0.5])]
    answers = [Answers(asked, both[0]), Answers(asked, 1 - both[0], variant="blur"), Answers(learned, both[1])]
    predictions.write(project / PREDICTIONS, (ONE, OTHER), answers)


def test_a_photo_in_the_wrong_folder_is_suspect_and_the_others_are_counted_as_not_asked(garden: Path) -> None:
    (garden / RAW / OTHER / "0.jpg").rename(garden / RAW / ONE / "stray.jpg")
    shares = {f"{ONE}/{n}.jpg": 0.9 for n in range(1, 4)} | {f"{OTHER}/{n}.jpg": 0.1 for n in range(1, 4)}
    predict(garden, {**shares, f"{ONE}/stray.jpg": 0.02, f"{ONE}/5.jpg": 0.45})
    after = seen(garden)
    (finding,) = [one for one in after.findings if one.rule == "suspects"]
    assert [case.paths for case in finding.cases] == [(f"{ONE}/stray.jpg",)]
    assert finding.cases[0].note == f"{OTHER} 0.98, its folder 0.02"
    assert (after.suspects.asked, after.suspects.learned, after.suspects.rest) == (8, 0, 8)
    assert "8 others not at all" in finding.sentence


def test_a_photo_that_was_taken_for_another_class_all_along_is_suspect(garden: Path) -> None:
    by_path = {one.path: one for one in seen(garden).photos}
    told = {f"{ONE}/1.jpg": (ONE, OTHER, 0.8, 0.1), f"{ONE}/2.jpg": (ONE, OTHER, 0.5, 0.4)}
    told |= {f"{OTHER}/1.jpg": (ONE, OTHER, 0.9, 0.0), f"{ONE}/3.jpg": (ONE, OTHER, 0.7, 0.2)}  # 1: moved since
    course = garden / COURSE
    course.parent.mkdir(parents=True)
    with course.open("w", newline="") as file:
        csv.writer(file).writerow(("md5", "class", "taken_for", "share", "own"))
        csv.writer(file).writerows([by_path[path].md5, *row] for path, row in told.items())
    predict(garden, {f"{ONE}/3.jpg": 0.9, f"{OTHER}/3.jpg": 0.1})
    after = seen(garden).suspects
    assert [(one.photo.path, one.predicted, one.learned) for one in after.found] == [(f"{ONE}/1.jpg", OTHER, True)]
    assert (after.asked, after.learned, after.rest) == (2, 2, 12)


def test_without_answers_nobody_is_suspect(garden: Path) -> None:
    assert seen(garden).suspects == suspects.Suspects((), 0, 0, 16)
    (garden / PREDICTIONS).parent.mkdir(parents=True)
    (garden / PREDICTIONS).write_bytes(b"cut off")
    assert seen(garden).suspects == suspects.Suspects((), 0, 0, 16)


@pytest.mark.parametrize("seed", range(8))
def test_confident_learning_is_cleanlabs(seed: int) -> None:
    filters = pytest.importorskip("cleanlab.filter")
    random = np.random.default_rng(seed)
    true = random.integers(0, 5, 400)
    labels = np.where(random.random(400) < 0.1, random.integers(0, 5, 400), true)
    logits = random.normal(0, 1.3, (400, 5))
    logits[np.arange(400), true] += 2.5
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = filters.find_label_issues(
        labels, shares, filter_by="confident_learning", return_indices_ranked_by="normalized_margin", n_jobs=1
    )
    ours = [at for at, _ in suspects.confident(labels, shares)]
    assert ours == expected.tolist()
    assert len(ours) > 10
