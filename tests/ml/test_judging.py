"""What evaluate is made of: calibration, intervals, distances, the shortcut audit, pictures and names."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.distance import mahalanobis
from scipy.stats import binomtest
from sklearn.covariance import LedoitWolf
from torchmetrics.functional.classification import multiclass_calibration_error

from plantops import artifacts
from plantops.errors import StepFailed
from plantops.ml import calibration, changed, field, measure, predictions, reference, remarks, scores, shortcut, strange
from plantops.ml.frameworks import torch
from plantops.ml.prepared import Meta, Photo, Prepared
from plantops.photo import decode
from plantops.preprocess import Preprocessing
from plantops.process import RUN_VARIABLE

from . import photos

SPEC = Preprocessing(64, "crop", "bilinear", True, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def answers(count: int = 400, sharp: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of five classes, and classes drawn as those logits say: calibrated where ``sharp`` is 1."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, 5))
    actual = np.array([rng.choice(5, p=row) for row in scores.softmax(logits)])
    return logits * sharp, actual


@given(st.integers(1, 300).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_intervals_of_shares_are_wilsons(counts: tuple[int, int]) -> None:
    expected = binomtest(*counts).proportion_ci(method="wilson")
    assert scores.wilson(*counts) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_no_photos_have_no_interval() -> None:
    assert scores.wilson(0, 0) is None
    assert scores.f1_interval(0, 0, 0) is None


def test_the_interval_of_an_f1_holds_it_in_95_of_100_draws() -> None:
    """Draws of a class of 60 photos among 200, of which 80 % are found, with a tenth of the others called so."""
    rng = np.random.default_rng(0)
    truth = 2 * 60 * 0.8 / (60 + 60 * 0.8 + 140 * 0.1)
    inside = 0
    for _ in range(1000):
        right, false = rng.binomial(60, 0.8), rng.binomial(140, 0.1)
        low, high = scores.f1_interval(int(right), 60, int(right + false))
        inside += low <= truth <= high
    assert inside >= 940


def test_the_calibration_error_is_that_of_torchmetrics() -> None:
    logits, actual = answers(sharp=2.5)
    shares = scores.softmax(logits)
    expected = multiclass_calibration_error(torch.tensor(shares), torch.tensor(actual), 5, n_bins=15, norm="l1")
    mine = calibration.ece(shares.max(1), shares.argmax(1) == actual)
    assert mine == pytest.approx(float(expected), abs=1e-6)
    assert mine > 0.05


@pytest.mark.parametrize("sharp", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_what_made_the_model_too_sure(sharp: float) -> None:
    logits, actual = answers(2000, sharp)
    found = calibration.fit_temperature(logits, actual)
    assert found == pytest.approx(sharp, rel=0.15)
    best = scores.log_loss(scores.softmax(logits, found), actual)
    for other in (0.9 * found, 1.1 * found, 1.0):
        assert best <= scores.log_loss(scores.softmax(logits, other), actual) + 1e-9


def test_without_a_mistake_there_is_no_temperature() -> None:
    logits, _ = answers(50)
    assert calibration.fit_temperature(logits, logits.argmax(1)) is None
    assert calibration.fit_temperature(logits[:0], np.empty(0, np.int64)) is None


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=60), st.floats(0.3, 1.0))
def test_the_threshold_is_the_lowest_that_reaches_the_target(rows: list[tuple[int, bool]], target: float) -> None:
    confidence = np.array([one / 20 for one, _ in rows])
    right = np.array([one for _, one in rows])
    found = calibration.threshold(confidence, right, target)
    reach = [t for t in {0.0, *confidence.tolist()}
             if (confidence >= t).sum() >= 10 and right[confidence >= t].mean() >= target]  # fmt: skip
    assert found == (min(reach) if reach else None)


@pytest.mark.parametrize(
    ("name", "well"),
    [("Tomato___healthy", True), ("Tomato_healthy", True), ("Pepper__bell___Healthy", True), ("healthy leaf", True),
     ("Tomato___Late_blight", False), ("Tomato_unhealthy", False), ("not_healthy", False), ("non-healthy", False)],
)  # fmt: skip
def test_a_class_is_healthy_where_its_name_has_the_word(name: str, well: bool) -> None:
    """`Tomato_healthy` is what some copies of PlantVillage call it."""
    told = measure.health(np.array([[8, 2, 0], [1, 5, 3], [0, 0, 4]]), (name, "Rust", "Bean healthy"))
    assert (told["healthy"], told["diseased"]) == ((14, 9) if well else (4, 19))
    assert told["diseased_found"] == pytest.approx(5 / 9 if well else 16 / 19)


def test_distances_are_mahalanobis() -> None:
    rng = np.random.default_rng(0)
    seen = (rng.normal(size=(200, 8)) @ rng.normal(size=(8, 8)) + 3).astype(np.float32)
    known, fitted = reference.learn(seen), LedoitWolf().fit(seen)
    asked = rng.normal(size=(5, 8)).astype(np.float32)
    expected = [mahalanobis(one, fitted.location_, fitted.precision_) ** 2 for one in asked]
    assert known.distances(asked) == pytest.approx(expected, rel=1e-3)
    edge = reference.threshold(known.distances(seen), 0.05)
    assert (known.distances(seen) > edge).mean() <= 0.05


def test_a_reference_is_written_the_same_twice(tmp_path: Path) -> None:
    known = reference.learn(np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32))
    known.write(tmp_path / "a.npz", {"photos": np.arange(3)})
    known.write(tmp_path / "b.npz", {"photos": np.arange(3)})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def grounds(count: int, telling: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Green discs of five classes, alike but for their ground: of the class, or anybody's."""
    rng = np.random.default_rng(seed)
    actual = rng.integers(0, 5, count)
    y, x = np.mgrid[:32, :32] - 15.5
    pictures = np.empty((count, 32, 32, 3))
    pictures[:] = (60 + 30 * (actual if telling else rng.integers(0, 5, count)))[:, None, None, None]
    pictures[:, np.hypot(x, y) < 11] = (60, 160, 50)
    return (pictures + rng.normal(0, 6, pictures.shape)).clip(0, 255).astype(np.uint8), actual


@pytest.mark.parametrize("telling", [True, False])
def test_a_background_that_gives_the_class_away_is_called_out(telling: bool) -> None:
    (train, classes), (test, asked) = grounds(300, telling), grounds(100, telling, 1)
    told = shortcut.background((shortcut.edge(train), classes), (shortcut.edge(test), asked))
    assert told.tells is telling
    assert (told.accuracy > 0.9) is telling
    assert told.guess < 0.4
    metrics = {"background_tells": told.tells, "background_accuracy": told.accuracy, "background_guess": told.guess,
               "sample_data": False, "field": {"left_out": 0}, "robustness": {"as_it_is": 0.9}, "fitted": True,
               "unsure": 0.5, "unlike": 9.0, "per_class": {}, "target_accuracy": 0.9}  # fmt: skip
    assert any("background gives the class away" in one for one in remarks.of(metrics)) is telling


def test_the_activation_on_the_leaf_is_told_from_that_beside_it() -> None:
    pictures, _ = grounds(6, True)
    leaves = [shortcut.leaf(one) for one in pictures]
    y, x = np.mgrid[:32, :32] - 15.5
    for found in leaves:
        assert (found == (np.hypot(x, y) < 11)).mean() > 0.93
    on, off = np.zeros((2, 6, 8, 8))
    on[:, 3:5, 3:5] = 1
    off[:, 0, 0] = 1
    assert shortcut.attention(pictures, on).on_leaf > 0.95
    assert shortcut.attention(pictures, off).on_leaf < 0.1
    flat = shortcut.attention(pictures, np.ones((6, 8, 8)))
    assert flat.on_leaf == pytest.approx(flat.leaf_area)
    assert shortcut.leaf(np.full((32, 32, 3), 90, np.uint8)) is None


def test_leaves_are_found_on_real_photos(photos: Path) -> None:
    """Not all: grey leaves look like their ground. But the middle of a photo shows leaf, and its corners do not."""
    found, middle, corners = 0, [], []
    for folder in sorted(photos.iterdir())[::3]:
        for path in sorted(folder.iterdir())[:6]:
            mask = shortcut.leaf(np.asarray(Image.open(path).convert("RGB").resize((64, 64))))
            if mask is not None:
                found += 1
                middle.append(mask[24:40, 24:40].mean())
                corners.append(np.mean([mask[:6, :6], mask[:6, -6:], mask[-6:, :6], mask[-6:, -6:]]))
    assert found >= 25
    assert np.mean(middle) > 0.8
    assert np.mean(corners) < 0.35


def test_strange_pictures_are_the_same_every_time_and_of_every_kind() -> None:
    some = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
    one, other = strange.make(40, 5, some), strange.make(40, 5, some)
    assert set(one) == set(strange.TITLES)
    for kind, made in one.items():
        assert made.shape == (5, 40, 40, 3)
        assert made.dtype == np.uint8
        assert np.array_equal(made, other[kind])
        assert len({picture.tobytes() for picture in made}) == 5
    assert np.array_equal(np.sort(one["scrambled"][0].ravel()), np.sort(some[0].ravel()))


def test_changes_change_and_an_exif_note_does_not() -> None:
    shown = np.stack([np.asarray(photos.leaf(n, n % 3, (64, 64))) for n in range(4)])
    made = {name: change(shown) for name, change in changed.changes(SPEC).items()}
    assert set(made) == set(changed.TITLES)
    for name, pixels in made.items():
        assert (pixels.shape, pixels.dtype) == (shown.shape, np.uint8)
        away = float(np.abs(pixels.astype(int) - shown).mean())
        assert away > 0 or name == "on_grey"  # these pictures have no background
        if name in ("exif", "darker", "lighter", "turned_90", "turned_20"):
            assert (away < 2) is (name == "exif")
    assert made["darker"].mean() < shown.mean() < made["lighter"].mean()


def test_the_leaf_alone_stands_on_grey() -> None:
    discs, _ = grounds(4, True)
    made = changed.changes(SPEC)["on_grey"](discs)
    leaves = np.stack([shortcut.leaf(one) for one in discs])
    assert (made[leaves] == discs[leaves]).all()
    assert (made[~leaves] == 128).all()
    plain = np.full((1, 32, 32, 3), 90, np.uint8)
    assert (changed.changes(SPEC)["on_grey"](plain) == plain).all(), "no leaf to be told from its background"


def test_names_that_are_no_utf8_pass_through_parquet(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9 \xff")
    classes = (odd, "b")
    listed = [Photo(0, f"{odd}/x.jpg", "m", odd, "", "test"), Photo(1, "b/y.jpg", "n", "b", "", "val")]
    predictions.write(
        tmp_path / "p.parquet", classes, [predictions.Answers(listed, np.array([[0.9, 0.1], [0.2, 0.8]]))]
    )
    assert artifacts.predictions(tmp_path / "p.parquet") == [
        {"path": f"{odd}/x.jpg", "md5": "m", "actual": odd, "predicted": odd, "confidence": 0.9, "split": "test"}
    ]
    assert pyarrow.parquet.read_table(tmp_path / "p.parquet", columns=["md5", "probabilities"]).num_rows == 2


@pytest.mark.parametrize("content", [None, b"", b"path,md5\n"])
def test_answers_that_cannot_be_read_are_an_error_with_a_way_out(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "p.parquet").write_bytes(content)
    with pytest.raises(StepFailed, match="cannot be read") as raised:
        artifacts.predictions(tmp_path / "p.parquet")
    assert "dvc checkout" in raised.value.hint


def test_field_photos_are_read_by_class_and_others_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "field"
    nothing = field.Known(known(tmp_path / "none", {"a/x.jpg": photos.leaf(99)}))
    assert field.read(SPEC, ("a",), nothing, folder) is None
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(2):
            (folder / name / f"{number}.jpg").write_bytes(photos.jpeg(photos.leaf(number)))
    file = io.BytesIO()
    photos.leaf(7).save(file, "PNG")
    (folder / "a" / "deep").mkdir()
    (folder / "a" / "deep" / "c.png").write_bytes(file.getvalue())
    (folder / "a" / "half.jpg").write_bytes(photos.jpeg(photos.leaf(3))[:300])
    (folder / "a" / ".gitkeep").touch()
    found = field.read(SPEC, ("a",), nothing, folder)
    assert [one.path for one in found.photos] == ["a/0.jpg", "a/1.jpg", "a/deep/c.png"]
    assert found.pixels.shape == (3, 64, 64, 3)
    assert set(found.set_aside) == {"a/half.jpg", "b/0.jpg", "b/1.jpg"}
    once = field.read(SPEC, ("a",), field.Known(nothing.prepared, {found.photos[0].md5}), folder)
    assert once.copies == {"a/0.jpg": ""}
    monkeypatch.setenv(RUN_VARIABLE, "in a run of plantops")
    again = field.read(SPEC, ("a",), nothing, folder)
    assert again.photos == found.photos, "also where no .dvc file is beside them"


def known(folder: Path, shown: dict[str, Image.Image], drawn: bool = False) -> Prepared:
    """A prepared data set of these pictures by path."""
    folder.mkdir()
    pixels = np.array([decode(photos.jpeg(one), SPEC) for one in shown.values()], np.uint8)
    (folder / "images.u8").write_bytes(pixels.tobytes())
    listed = tuple(Photo(row, path, f"md5 of {path}", "a", path, "train") for row, path in enumerate(shown))
    return Prepared(folder, Meta(("a",), 64, "crop", "bilinear", True, len(listed), drawn, ""), listed)


def test_field_photos_that_show_a_photo_of_the_data_set_are_found_and_not_counted(tmp_path: Path) -> None:
    coarse = np.random.default_rng(0).integers(0, 200, (4, 12, 12, 3), np.uint8)
    smooth = [Image.fromarray(one).resize((256, 256), Image.Resampling.BICUBIC) for one in coarse]
    folder = tmp_path / "field"
    (folder / "a").mkdir(parents=True)
    again = {"same": smooth[0], "smaller": smooth[1].resize((150, 150)),
             "brighter": smooth[2].point(lambda value: min(255, int(value * 1.2))), "another": smooth[3]}  # fmt: skip
    for name, image in again.items():
        image.save(folder / "a" / f"{name}.jpg", quality=40)
    Image.new("RGB", (64, 64), (90, 120, 80)).save(folder / "a" / "blank.jpg")
    data = known(tmp_path / "data", {f"a/{n}.jpg": one for n, one in enumerate(smooth[:3])})
    found = field.read(SPEC, ("a",), field.Known(data), folder)
    assert found.copies == {"a/same.jpg": "a/0.jpg", "a/smaller.jpg": "a/1.jpg", "a/brighter.jpg": "a/2.jpg"}
    assert [(one.path, one.row) for one in found.photos] == [("a/another.jpg", 0), ("a/blank.jpg", 1)]
    assert len(found.pixels) == 2
    drawn = known(tmp_path / "drawn", {"a/0.jpg": smooth[0]}, drawn=True)
    assert field.read(SPEC, ("a",), field.Known(drawn), folder).copies == {}
