"""prepare_data on real files: what is used, what is set aside and why, and what stops it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from api_client import until
from conftest import sh
from plantops import sample
from plantops.errors import StepFailed
from plantops.ml import data
from plantops.ml.prepared import GREY, Prepared, digest
from plantops.photo import DRAWN, decode
from plantops.preprocess import Preprocessing

from . import photos


def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Prepared, dict[str, Any]]:
    monkeypatch.chdir(folder)
    data.main()
    return Prepared.load(folder / "data/prepared"), json.loads((folder / "metrics/data.json").read_text())


def test_pixels_are_what_serving_will_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, metrics = prepare(photos.project(tmp_path / "p", 8), monkeypatch)
    spec = Preprocessing(32, "crop", "bilinear", True, GREY, GREY)
    for photo in prepared.photos:
        raw = (tmp_path / "p/raw" / photo.path).read_bytes()
        assert photo.md5 == hashlib.md5(raw).hexdigest()
        assert np.array_equal(prepared.images[photo.row], decode(raw, spec))
    assert prepared.meta.classes == tuple(sorted(photos.CLASSES))
    assert (metrics["photos"], metrics["classes"], metrics["groups"], metrics["ungrouped"]) == (24, 3, 6, 0)
    listed = sorted((photo.path, photo.md5, photo.split) for photo in prepared.photos)
    assert metrics["digest"] == digest(prepared.photos) == hashlib.sha256(json.dumps(listed).encode()).hexdigest()
    assert not metrics["sample_data"]


def test_groups_stay_together_and_the_counts_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, metrics = prepare(photos.project(tmp_path / "p"), monkeypatch)
    sides = Counter((photo.label, photo.split) for photo in prepared.photos)
    assert all(
        len({p.split for p in prepared.photos if p.group == group}) == 1 for group in {p.group for p in prepared.photos}
    )
    assert metrics["per_class"] == {
        name: {side: sides[name, side] for side in ("train", "val", "test")} for name in prepared.meta.classes
    }
    assert metrics["splits"]["test"] == sum(p.split == "test" for p in prepared.photos) > 0
    assert metrics["not_judged"] == []


def test_a_picture_saved_twice_is_on_one_side_whatever_its_names_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photos.project(tmp_path / "p")
    raw = folder / "raw" / photos.CLASSES[0]
    coarse = np.random.default_rng(0).integers(0, 200, (12, 12, 12, 3), np.uint8)
    for number, one in enumerate(coarse):  # each again in a series of its own, smaller and worse
        picture = Image.fromarray(one).resize((96, 96), Image.Resampling.BICUBIC)
        picture.save(raw / f"x___First {number}00.jpg", quality=90)
        picture.resize((64, 64)).save(raw / f"x___Second {number}00.jpg", quality=50)
    monkeypatch.chdir(folder)
    data.main()
    sides = {one.path.rpartition("___")[2]: (one.split, one.group) for one in Prepared.load().photos}
    assert {sides[f"First {number}00.jpg"][0] for number in range(12)} == {"train", "val", "test"}
    for number in range(12):
        assert sides[f"First {number}00.jpg"] == sides[f"Second {number}00.jpg"]
    assert "12 groups joined others, because photos of both show the same picture" in capsys.readouterr().out


def test_what_cannot_be_used_is_set_aside_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = photos.project(tmp_path / "p", 8)
    raw, (first, second, third) = folder / "raw", photos.CLASSES
    good = (raw / first / "0000___K0 000.jpg").read_bytes()
    (raw / first / "empty.jpg").touch()
    (raw / first / "cut.JPG").write_bytes(good[: len(good) // 2])
    (raw / first / "notes.txt").write_text("about the leaves")
    (raw / first / "small.png").write_bytes(photos.jpeg(photos.leaf(7, size=(40, 12))))
    (raw / first / "sub").mkdir()
    (raw / first / "sub/copy.jpg").write_bytes(good)
    (raw / second / "also copy.jpeg").write_bytes(good)
    (raw / "loose.jpg").write_bytes(photos.jpeg(photos.leaf(8)))
    (raw / "linked").symlink_to(raw / third)
    for ignored in (".DS_Store", f"{first}/.hidden.jpg", f"{first}/.gitkeep", f"{first}.dvc", ".cache/x.jpg"):
        (raw / ignored).parent.mkdir(exist_ok=True)
        (raw / ignored).write_bytes(good)
    prepared, metrics = prepare(folder, monkeypatch)
    reasons = {one["path"]: one["reason"] for one in metrics["set_aside"]}
    kept = f"same bytes as {first}/0000___K0 000.jpg"
    assert reasons.pop(f"{first}/cut.JPG").startswith("damaged image")
    assert reasons.pop(f"{first}/notes.txt").startswith("not an image")
    assert reasons == {
        f"{first}/empty.jpg": "empty file",
        f"{first}/small.png": "40 x 12 pixels, smaller than 16",
        f"{first}/sub/copy.jpg": kept,
        f"{second}/also copy.jpeg": kept,
        "loose.jpg": "not in the folder of a class",
        "linked": "a link to a folder, which DVC does not follow",
    }
    assert len(prepared.photos) == 24


def test_names_of_any_bytes_are_carried_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photos.project(tmp_path / "p", 8)
    odd = [os.fsdecode(b"caf\xe9___K0 900.jpg"), "two\nlines___K0 901.jpg", 'quo"te, comma___K0 902.jpg']
    for number, name in enumerate(odd):
        (folder / "raw" / photos.CLASSES[0] / name).write_bytes(photos.jpeg(photos.leaf(90 + number)))
    (folder / "raw" / photos.CLASSES[0] / os.fsdecode(b"\xff.jpg")).touch()
    prepared, metrics = prepare(folder, monkeypatch)
    assert {f"{photos.CLASSES[0]}/{name}" for name in odd} <= {photo.path for photo in prepared.photos}
    assert metrics["set_aside"][0]["path"].endswith("\udcff.jpg")
    assert "\\udcff.jpg: empty file" in capsys.readouterr().out


def test_the_same_photos_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = photos.project(tmp_path / "p", 8)

    def outputs() -> dict[str, bytes]:
        prepare(folder, monkeypatch)
        found = [*(folder / "data/prepared").rglob("*.*"), folder / "metrics/data.json"]
        return {str(path): path.read_bytes() for path in found}

    assert outputs() == outputs()


def test_golden_photos_come_from_all_classes_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, _ = prepare(photos.project(tmp_path / "p"), monkeypatch)
    by_md5 = {photo.md5: photo for photo in prepared.photos}
    golden = [by_md5[hashlib.md5(p.read_bytes()).hexdigest()] for p in (prepared.folder / "golden").iterdir()]
    assert len(golden) == 12
    assert {photo.label for photo in golden} == set(photos.CLASSES)
    assert {photo.split for photo in golden} == {"test"}


def test_drawn_leaves_are_marked_and_never_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos.params(tmp_path)
    sample.draw(tmp_path / "raw", classes=2, per_class=8)
    prepared, metrics = prepare(tmp_path, monkeypatch)
    assert prepared.meta.sample_data
    assert metrics["sample_data"]
    assert metrics["set_aside"] == []
    photos.fill(tmp_path / "raw", 4, ("Real___leaf",))
    with pytest.raises(StepFailed, match="16 drawn sample leaves lie among 4 photos"):
        data.main()


def test_a_comment_alone_makes_a_drawn_leaf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = photos.project(tmp_path / "p", 4)
    (folder / "raw" / photos.CLASSES[0] / "x.jpg").write_bytes(photos.jpeg(photos.leaf(5), comment=DRAWN))
    monkeypatch.chdir(folder)
    with pytest.raises(StepFailed, match="1 drawn sample leaves lie among 12 photos"):
        data.main()


@pytest.mark.parametrize("state", ["absent", "empty", "only ignored files"])
def test_no_photos_is_an_error_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    photos.params(tmp_path)
    if state != "absent":
        (tmp_path / "raw/A").mkdir(parents=True)
    if state == "only ignored files":
        (tmp_path / "raw/.gitkeep").touch()
        (tmp_path / "raw/A.dvc").write_text("outs: []")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StepFailed) as raised:
        data.main()
    assert "plantops sample" in raised.value.hint


def test_one_usable_class_is_not_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos.params(tmp_path)
    photos.fill(tmp_path / "raw", 4, ("Only___one",))
    (tmp_path / "raw/Broken").mkdir()
    (tmp_path / "raw/Broken/1.jpg").write_text("no image")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StepFailed, match="two classes with usable photos; raw holds only Only___one"):
        data.main()


def test_a_failed_stage_says_so_without_a_traceback(tmp_path: Path) -> None:
    photos.params(tmp_path)
    done = sh(sys.executable, "-m", "plantops.ml.data", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("error: there is no folder raw\n  try: ")
    assert "Traceback" not in done.stdout + done.stderr


def test_a_photo_that_comes_while_others_are_read_fails_the_stage(tmp_path: Path) -> None:
    folder = photos.project(tmp_path / "p", 4)
    slow = photos.jpeg(photos.leaf(3, size=(2000, 1500)))
    for number in range(8):  # long work, so that the stage is met in the middle of it
        (folder / f"raw/{photos.CLASSES[0]}/z{number}.jpg").write_bytes(slow + bytes([number]))
    stage = subprocess.Popen([sys.executable, "-m", "plantops.ml.data"], cwd=folder, stdout=subprocess.PIPE, text=True)
    until((folder / "data/prepared/images.u8").exists, what="the first photo")
    stage.send_signal(signal.SIGSTOP)
    assert not (folder / "data/prepared/meta.json").exists()
    shutil.copytree(folder / "raw" / photos.CLASSES[1], folder / "raw/NewClass")
    stage.send_signal(signal.SIGCONT)
    said, _ = stage.communicate(timeout=60)
    assert stage.returncode == 1
    assert "photos moved while they were read: NewClass/0000___K1 000.jpg came" in said
    assert not (folder / "metrics/data.json").exists()


def peak(folder: Path) -> int:
    """Bytes that prepare_data holds in memory at most."""
    code = "from plantops.ml import data; data.main(); print(open('/proc/self/status').read())"
    said = sh(sys.executable, "-c", code, cwd=folder).stdout
    return next(int(line.split()[1]) * 1024 for line in said.splitlines() if line.startswith("VmHWM:"))


@pytest.mark.ci
def test_a_film_among_the_photos_is_set_aside_without_being_held_in_memory(tmp_path: Path) -> None:
    folder = photos.project(tmp_path / "p", 8)
    film = folder / "raw" / photos.CLASSES[0] / "film.jpg"
    film.touch()
    os.truncate(film, (1 << 30) + 1)  # a sparse file: no disk
    assert peak(folder) < 1 << 29
    aside = json.loads((folder / "metrics/data.json").read_text())["set_aside"]
    assert aside == [{"path": f"{photos.CLASSES[0]}/film.jpg", "reason": "1.1 GB, too large for a photo"}]


def pictures(folder: Path, count: int) -> Path:
    """Distinct pictures of few pixels in four classes; of every hundred two show the same, and one is a copy."""
    folder.mkdir()
    photos.params(folder, model={"size": 32}, split={"group_by": None})
    random, first = np.random.default_rng(1), np.empty(0)
    for number in range(count):
        path = folder / f"raw/Class {number % 4}/{number}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = random.integers(0, 250, (8, 8, 3), dtype=np.uint8)
        first = coarse if number % 100 == 0 else first
        shown = {7: first + np.uint8(1 + number % 3), 8: first}.get(number % 100, coarse)
        Image.fromarray(shown.repeat(4, 0).repeat(4, 1)).save(path)
    return folder


@pytest.mark.ci
def test_memory_does_not_grow_with_the_photos(tmp_path: Path) -> None:
    few, many = (peak(pictures(tmp_path / str(count), count)) for count in (2_000, 20_000))
    assert many < 1.2 * few


# Of what the first version wrote, which held all of it in memory.
WRITTEN = {
    "data/prepared/images.u8": "151e9a69d115c411cdc387d8d7a61948bc586e8cd116b42c9443afb8701f2e40",
    "data/prepared/index.csv": "a5272babb11af17b76cbf77506838cde8be731a0ce5f273127c17046c61006b1",
    "data/prepared/meta.json": "049f6d14a73b520507a96925c8f2dbeaf4c68f7d9801158f26222d39e802af52",
    "data/read.csv": "261e2397a98d49f8fca8d7fffbc1eec24e9fbd65c3e22cff15a2947630530ad7",
    "metrics/data.json": "c143ce98a2e76cdfae69e601c9d34bbb3a589ce421e2de9972c6e31af943b715",
}


def test_the_same_photos_give_what_they_always_gave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pictures(tmp_path / "p", 400)
    prepare(folder, monkeypatch)
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in WRITTEN} == WRITTEN
