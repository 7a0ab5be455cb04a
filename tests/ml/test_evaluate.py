"""evaluate: every number can be computed again from the answers it lists, by other means than its own."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from scipy.stats import binomtest
from sklearn import metrics as oracle

from plantops import artifacts
from plantops.bundle import Bundle
from plantops.ml import card, evaluate, measure, remarks, report
from plantops.ml.examine import STRANGE
from plantops.ml.prepared import Prepared

from . import photos

pytestmark = pytest.mark.ci

OUTPUTS = ("models/evaluation", "metrics/evaluation.json", "plots/confusion.csv", "plots/confusion.png",
           "plots/curves.png", "reports/evaluation.html", "reports/model_card.md")  # fmt: skip
HOSTILE = "<script>alert(1)</script>&\"'|x"


class Answers:
    """A file of answers, read as any other program would."""

    def __init__(self, path: Path, split: str | None = None, variant: str | None = None) -> None:
        table = pyarrow.parquet.read_table(path)
        self.classes: list[str] = json.loads(table.schema.metadata[b"classes"])
        rows = [row for row in table.to_pylist() if split in (None, row["split"]) and variant in (None, row["variant"])]
        self.rows = rows
        self.actual, self.predicted = ([row[key] for row in rows] for key in ("actual", "predicted"))
        self.probabilities = np.array([row["probabilities"] for row in rows])
        self.confidence = np.array([row["confidence"] for row in rows])
        self.distance = np.array([row["distance"] for row in rows], float)
        self.right = np.array(self.actual) == np.array(self.predicted)


def said(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics/evaluation.json").read_text())


@pytest.fixture(scope="module")
def test(trained: Path) -> Answers:
    return Answers(trained / "models/evaluation/predictions.parquet", "test")


@pytest.fixture(scope="module")
def twisted(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained project evaluated anew: one class has a hostile name, and there are field photos."""
    folder = tmp_path_factory.mktemp("twisted") / "project"
    shutil.copytree(trained, folder)
    for file in ("data/prepared/index.csv", "data/prepared/meta.json", "models/checkpoint/model.json"):
        text = (folder / file).read_text()
        quoted = HOSTILE.replace('"', '""') if file.endswith("csv") else json.dumps(HOSTILE)[1:-1]
        old = "Pepper,_bell___healthy"
        assert old in text
        (folder / file).write_text(text.replace(old, quoted))
    field = folder / "data/field"
    for number in range(6):
        path = field / photos.CLASSES[number % 2 + 1] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photos.jpeg(photos.leaf(9000 + number, number % 2 + 1)))
    (path.parent / "mistake.jpg").write_bytes(photos.jpeg(photos.leaf(9100, 1)))  # rings among checks
    (field / "Unheard of").mkdir()
    shutil.copy(path, field / "Unheard of" / "a.jpg")
    (path.parent / "broken.jpg").write_bytes(b"no photo")
    learned = next((folder / "raw" / photos.CLASSES[1]).iterdir())
    shutil.copy(learned, field / photos.CLASSES[1] / "known.jpg")
    with contextlib.chdir(folder):
        evaluate.main()
    return folder


def test_scores_are_those_of_scikit_learn(trained: Path, test: Answers) -> None:
    told = said(trained)
    number = {name: index for index, name in enumerate(test.classes)}
    truth = np.eye(len(test.classes))[[number[name] for name in test.actual]]
    expected = {
        "photos": len(test.actual),
        "accuracy": oracle.accuracy_score(test.actual, test.predicted),
        "macro_f1": oracle.f1_score(test.actual, test.predicted, average="macro"),
        "balanced_accuracy": oracle.balanced_accuracy_score(test.actual, test.predicted),
        "log_loss": oracle.log_loss(test.actual, test.probabilities, labels=test.classes),
        "brier": sum(oracle.brier_score_loss(truth[:, k], test.probabilities[:, k]) for k in range(len(test.classes))),
    }
    for name, value in expected.items():
        assert told[name] == pytest.approx(value, abs=1e-6), name
    interval = binomtest(int(test.right.sum()), len(test.right)).proportion_ci(method="wilson")
    assert (told["accuracy_low"], told["accuracy_high"]) == pytest.approx((interval.low, interval.high), abs=1e-6)


def test_scores_of_each_class_are_those_of_scikit_learn(trained: Path, test: Answers) -> None:
    table = oracle.classification_report(test.actual, test.predicted, output_dict=True, zero_division=0)
    per_class = said(trained)["per_class"]
    assert set(per_class) == set(test.classes)
    for name, one in per_class.items():
        assert one["support"] == table[name]["support"]
        for ours, theirs in (("recall", "recall"), ("f1", "f1-score"), ("precision", "precision")):
            assert one[ours] == pytest.approx(table[name][theirs], abs=1e-6)
            assert one[f"{ours}_low"] <= one[ours] <= one[f"{ours}_high"]
        right = sum(a == p == name for a, p in zip(test.actual, test.predicted, strict=True))
        interval = binomtest(right, one["support"]).proportion_ci(method="wilson")
        assert one["recall_low"] == pytest.approx(interval.low, abs=1e-6)


def test_probes_thresholds_and_views_follow_from_the_answers(trained: Path, test: Answers) -> None:
    told, path = said(trained), trained / "models/evaluation/probed.parquet"
    for name, value in told["robustness"].items():
        assert value == pytest.approx(Answers(path, variant=name).right.mean(), abs=1e-6), name
    made = Answers(path, variant=STRANGE)
    truth = np.r_[np.zeros(len(test.rows)), np.ones(len(made.rows))]
    for key, one, other in (("confidence", -test.confidence, -made.confidence),
                            ("distance", test.distance, made.distance)):  # fmt: skip
        expected = oracle.roc_auc_score(truth, np.r_[one, other])
        assert told["strange"][f"auroc_{key}"]["all"] == pytest.approx(expected, abs=1e-6)
    assert told["strange"]["noticed"] == pytest.approx((made.distance > told["unlike"]).mean(), abs=1e-6)
    val = Answers(trained / "models/evaluation/predictions.parquet", "val")
    assert 0 < (val.distance >= told["unlike"] - 1e-6).mean() <= 0.05 + 1 / len(val.rows)
    sure = test.confidence >= told.get("unsure", 0)
    assert told["coverage"] == pytest.approx(sure.mean(), abs=1e-6)
    healthy = np.array([name.endswith("___healthy") for name in test.actual])
    called = np.array([name.endswith("___healthy") for name in test.predicted])
    assert told["health"]["diseased_found"] == pytest.approx((~called[~healthy]).mean(), abs=1e-6)
    assert told["health"]["healthy_spared"] == pytest.approx(called[healthy].mean(), abs=1e-6)


def test_the_bundle_holds_what_was_fitted(trained: Path) -> None:
    told, bundle = said(trained), Bundle.load(trained / "models/candidate")
    assert bundle.manifest.temperature == told["temperature"]
    assert bundle.manifest.thresholds == {name: told[name] for name in ("unsure", "unlike") if name in told}
    assert "unlike" in bundle.manifest.thresholds
    with np.load(bundle.path / "reference.npz", allow_pickle=False) as reference:
        mean, whiten = reference["mean"], reference["whiten"]
    assert (mean.dtype, whiten.dtype, mean.shape[0]) == (np.float32, np.float32, whiten.shape[0])


def test_the_tower_reads_test_photos_only(trained: Path, test: Answers) -> None:
    read = artifacts.predictions(trained / "models/evaluation/predictions.parquet")
    assert [(one["path"], one["md5"], one["actual"], one["predicted"]) for one in read] == [
        (one["path"], one["md5"], one["actual"], one["predicted"]) for one in test.rows
    ]
    assert [one["path"] for one in read] == [one.path for one in Prepared.load(trained / "data/prepared").of("test")]


def test_the_same_inputs_give_the_same_bytes(twisted: Path) -> None:
    def contents() -> dict[str, bytes]:
        files = [path for name in OUTPUTS for path in ([twisted / name, *(twisted / name).glob("*")])]
        return {str(path): path.read_bytes() for path in files if path.is_file()}

    before = contents()
    with contextlib.chdir(twisted):
        evaluate.main()
    assert len(before) == len(OUTPUTS) + 2
    assert contents() == before
    assert all(str(twisted).encode() not in value for value in before.values())


def test_field_photos_are_judged_first_and_never_learned(twisted: Path) -> None:
    told = said(twisted)
    field = Answers(twisted / "models/evaluation/predictions.parquet", "field")
    assert told["field"]["photos"] == len(field.rows) == 7
    assert told["field"]["left_out"] == 2
    (copy,) = told["field"]["copies"]
    assert copy["path"].endswith("known.jpg")
    assert any("1 field photos are, or show the same as, photos of the data set" in one for one in told["remarks"])
    assert told["field_accuracy"] == pytest.approx(field.right.mean(), abs=1e-6)
    page = (twisted / "reports/evaluation.html").read_text()
    assert page.index("right in the field") < page.index("right on test photos")
    assert "data/field" not in (twisted / "data/prepared/index.csv").read_text()
    assert "There are no field photos" not in page


class Page(HTMLParser):
    """Collects what a page is made of, and whether its tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_small_and_needs_nothing_from_elsewhere(twisted: Path) -> None:
    path = twisted / "reports/evaluation.html"
    assert path.stat().st_size < 600_000
    page = Page(path.read_text())
    assert page.open == []
    for tag, given in page.tags:
        assert tag not in ("script", "link", "iframe", "object")
        assert not any(name.startswith("on") for name in given)
        assert str(given.get("src", "data:")).startswith("data:image/jpeg;base64,") or tag != "img"
        assert "href" not in given
    assert "url(" not in path.read_text()
    assert HOSTILE in page.text
    told = said(twisted)
    for words in (f"{100 * told['accuracy']:.1f} %", "Class by class", "Pictures that are no leaves",
                  "What it got wrong", "right from the background alone", *told["remarks"]):  # fmt: skip
        assert words in page.text, words
    assert sum(tag == "figure" for tag, _ in page.tags) <= 30
    for of, where in ((told["field"], ", in the field"), (told, ", on test photos")):
        assert f"Class by class{where}" in page.text
        assert f"Can its confidence be trusted{where}?" in page.text
        assert (f"What it takes for what{where}" in page.text) == bool(of["confusions"])
    sides = [given for tag, given in page.tags if tag == "svg"]
    assert sum(given.get("class") == "matrix" for given in sides) == 2
    assert told["field"]["confusions"], "no mistake, though one was planted"
    thumbs = [given for tag, given in page.tags if tag == "img" and "title" in given]
    pairs = [one for of in (told["field"], told) for one in of["confusions"]]
    assert len(thumbs) == sum(min(4, one["count"]) for one in pairs)


def test_the_card_says_the_same_numbers(twisted: Path) -> None:
    text, told = (twisted / "reports/model_card.md").read_text(), said(twisted)
    for key in ("accuracy", "macro_f1", "ece", "background_accuracy", "field_accuracy"):
        assert f"| {told[key]:.3f} |" in text, key
    assert "<script" not in text
    table = text[text.index("## Classes") :].splitlines()[4:]
    assert len(table) == len(told["per_class"])
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 8 for line in table)
    for line, one in zip(table, told["per_class"].values(), strict=True):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        assert cells[5] == ("–" if one["precision"] is None else
                            f"{one['precision_low']:.3f} – {one['precision_high']:.3f}")  # fmt: skip


def test_background_and_look_are_told_beside_every_accuracy_also_where_they_are_harmless(trained: Path) -> None:
    told, text = said(trained), (trained / "reports/model_card.md").read_text()
    harmless = {**told, "background_tells": False, "on_leaf": 0.7, "leaf_area": 0.4}
    assert f"by eight background pixels alone {told['background_accuracy']:.3f}, by guessing" in remarks.audit(harmless)
    assert "lies on the leaf, which covers" in remarks.audit(harmless)
    assert remarks.audit({**told, "on_leaf": None}).endswith("where the model looks cannot be told")
    tiles = [(one["what"], one["kind"]) for one in report.tiles(harmless)]
    assert ("right from the background alone", "") in tiles
    assert ("of its look is at the leaf", "") in tiles
    assert ("of its look is at the leaf", "warn") in [
        (one["what"], one["kind"]) for one in report.tiles({**harmless, "on_leaf": 0.41})
    ]
    assert text.index("accuracy on ") < text.index("background pixels alone") < text.index("macro-F1")


def test_a_class_that_was_never_answered_has_no_precision_and_no_interval_of_it() -> None:
    one = measure.per_class(np.array([[3, 0], [2, 0]]), ["A", "B"])["B"]
    assert (one["precision"], card._interval(one, "precision")) == (None, "–")
    assert card._interval(one, "recall").startswith("0.000 – ")
