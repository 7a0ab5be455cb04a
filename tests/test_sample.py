"""Drawn sample leaves: the same bytes each time, told apart by their marks, never mixed with photos."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plantops import leaf, sample
from plantops.errors import SetupError
from plantops.photo import is_drawn, open_photo

GROUP = re.compile(r"___(.+ \d*)\d\d\.\w+$")  # as in params.yaml


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw") / "PlantVillage"
    assert sample.draw(folder, classes=5, per_class=24) == {name: 24 for name, *_ in sample.CLASSES[:5]}
    return folder


@pytest.fixture
def copy(drawn, tmp_path):
    return shutil.copytree(drawn, tmp_path / "copy")


def photos(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.JPG"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_pictures_are_256_jpegs_that_say_that_they_are_drawn(drawn):
    assert len(photos(drawn)) == 5 * 24
    for file in photos(drawn):
        image = open_photo(file.read_bytes())
        assert (image.format, image.size, image.mode) == ("JPEG", (256, 256), "RGB")
        assert is_drawn(image)
    assert "drawn by `plantops sample`" in (drawn / sample.MARKER).read_text()


@pytest.mark.ci
def test_the_same_arguments_give_the_same_bytes_and_another_seed_another_sample(drawn, tmp_path):
    sample.draw(tmp_path / "again", classes=5, per_class=24)
    assert contents(tmp_path / "again") == contents(drawn)
    sample.draw(tmp_path / "other", classes=2, per_class=4, seed=2)
    assert not {file.read_bytes() for file in photos(tmp_path / "other")} & {f.read_bytes() for f in photos(drawn)}


def test_file_names_group_four_photos_to_a_leaf(drawn):
    groups: dict[str, list[str]] = {}
    for file in photos(drawn):
        match = GROUP.search(file.name)
        assert match, file.name
        groups.setdefault(match[1], []).append(file.parent.name)
    assert len(groups) == 5 * 6
    assert all(len(found) == 4 and len(set(found)) == 1 for found in groups.values())


def test_photos_of_a_leaf_differ_less_than_leaves_of_a_class(drawn):
    (own,) = {file.parent for file in photos(drawn) if file.parent.name == "Tomato___healthy"}
    by_leaf = sorted(own.iterdir(), key=lambda file: int(file.stem.split()[-1]))
    small = [np.asarray(Image.open(file).convert("L").resize((32, 32)), float) for file in by_leaf]
    flat = np.array([(one - one.mean()).ravel() / one.std() for one in small]).reshape(6, 4, -1)
    likeness = np.einsum("apx,bqx->apbq", flat, flat) / flat.shape[-1]
    same = np.mean([likeness[a, 0, a, 1:].mean() for a in range(6)])
    other = np.mean([likeness[a, 0, b].mean() for a in range(6) for b in range(6) if a != b])
    assert 0.5 < same < 0.999
    assert same > other + 0.2


def nearest_centroid(train, labels, test):
    centres = np.array([train[labels == k].mean(0) for k in np.unique(labels)])
    return np.linalg.norm(test[:, None] - centres, axis=2).argmin(1)


def nearest_neighbours(train, labels, test, k=5):
    nearest = np.linalg.norm(test[:, None] - train, axis=2).argsort(1)[:, :k]
    return np.array([np.bincount(labels[row]).argmax() for row in nearest])


def logistic_regression(train, labels, test):
    linear = pytest.importorskip("sklearn.linear_model")
    mean, std = train.mean(0), train.std(0)
    fitted = linear.LogisticRegression(max_iter=1000).fit((train - mean) / std, labels)
    return fitted.predict((test - mean) / std)


@pytest.fixture(scope="module")
def mean_colours(drawn):
    files = photos(drawn)
    colours = np.array([np.asarray(Image.open(file)).mean((0, 1)) for file in files])
    labels = np.unique([file.parent.name for file in files], return_inverse=True)[1]
    fold = np.array([int(GROUP.search(file.name)[1].split()[-1]) % 3 for file in files])
    return colours, labels, fold


@pytest.mark.parametrize("classify", [nearest_centroid, nearest_neighbours, logistic_regression])
def test_the_mean_colour_tells_little(mean_colours, classify):
    colours, labels, fold = mean_colours
    right = [classify(colours[fold != k], labels[fold != k], colours[fold == k]) == labels[fold == k] for k in range(3)]
    assert np.concatenate(right).mean() < 0.5  # the promise is 0.8; by chance 0.2


def test_each_disease_changes_the_leaf_it_is_drawn_on():
    plain = np.asarray(leaf.grow(np.random.default_rng(1), leaf.healthy).picture, int)
    seen = []
    for _name, _series, disease in sample.CLASSES[1:]:
        marked = np.asarray(leaf.grow(np.random.default_rng(1), disease).picture, int)
        assert (marked[..., 3] == plain[..., 3]).all()
        assert (np.abs(marked - plain).max(2) > 25)[plain[..., 3] > 0].mean() > 0.03, disease.__name__
        seen.append(marked.tobytes())
    assert len(set(seen)) == len(seen)


def test_an_earlier_sample_is_left_alone(copy):
    before = {file: file.stat().st_mtime_ns for file in copy.rglob("*")}
    assert set(sample.draw(copy, classes=5, per_class=24).values()) == {0}
    assert {file: file.stat().st_mtime_ns for file in copy.rglob("*")} == before


def test_what_a_killed_drawing_left_out_is_added(copy, drawn):
    lost = photos(copy)[7]
    lost.rename(lost.with_name(lost.name + ".part"))
    (copy / sample.MARKER).unlink()
    assert sum(sample.draw(copy, classes=5, per_class=24).values()) == 1
    assert contents(copy) == contents(drawn)


def test_a_class_can_be_added_beside_dvc_files(copy):
    (copy / "Tomato___healthy.dvc").write_text("outs: []\n")
    (copy / ".gitignore").write_text("/Tomato___healthy\n")
    assert sum(sample.draw(copy, classes=6, per_class=24).values()) == 24


def test_real_photos_are_never_mixed_with_drawn_ones(copy):
    Image.new("RGB", (256, 256)).save(copy / "Tomato___healthy" / "mine.JPG")
    before = contents(copy)
    with pytest.raises(SetupError, match=r"mine\.JPG was not drawn .*never mixed") as caught:
        sample.draw(copy, classes=5, per_class=24)
    assert "empty DIR" in caught.value.hint
    assert contents(copy) == before


def test_a_folder_of_another_class_is_refused(tmp_path):
    (tmp_path / "Grape___Esca").mkdir()
    with pytest.raises(SetupError, match="Grape___Esca was not drawn"):
        sample.draw(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["Grape___Esca"]


@pytest.mark.parametrize("wish", [{"seed": 2}, {"classes": 4}, {"per_class": 20}])
def test_another_sample_is_not_drawn_over_this_one(copy, wish):
    with pytest.raises(SetupError, match="holds another sample") as caught:
        sample.draw(copy, **{"classes": 5, "per_class": 24, **wish})
    assert "remove" in caught.value.hint


@pytest.mark.parametrize("wish", [{"classes": 1}, {"classes": 99}, {"per_class": 0}])
def test_impossible_numbers_are_refused(tmp_path, wish):
    with pytest.raises(SetupError, match="draws"):
        sample.draw(tmp_path / "none", **wish)
    assert not (tmp_path / "none").exists()


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "raw").write_text("")
    with pytest.raises(SetupError, match="raw is no folder"):
        sample.draw(tmp_path / "raw")


def test_real_photos_of_plantvillage_are_refused(tmp_path):
    real = Path(__file__).parents[2] / "shared/data/plantvillage/Tomato___healthy"
    if not real.is_dir():
        pytest.skip("no real photos here")
    own = tmp_path / "Tomato___healthy"
    own.mkdir()
    shutil.copy(next(real.iterdir()), own)
    with pytest.raises(SetupError, match="was not drawn"):
        sample.draw(tmp_path)
