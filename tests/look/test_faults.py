"""Every fault that is planted is found, and nothing else; photos that are well raise nothing."""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import PHOTOS, photo, sh
from look.scenes import ONE, OTHER, RAW, found, scene, seen
from plantops import sample


def bomb(path: Path) -> None:
    """A PNG of a few bytes that says it has 3,600 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def cut(path: Path) -> None:
    scene(7000, 300).save(path, quality=95)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(7001).save(path, exif=exif)


def several(path: Path) -> None:
    scene(7002).convert("P").save(path, save_all=True, append_images=[scene(7003).convert("P")])


def sixteen(path: Path) -> None:
    grey = np.asarray(scene(7004).convert("L"), np.uint16)
    Image.fromarray(grey * 257).save(path)


FAULTS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "empty.jpg": ("empty", lambda path: path.write_bytes(b"")),
    "text.jpg": ("foreign", lambda path: path.write_bytes(b"<html>404 Not Found</html>")),
    "cut.jpg": ("damaged", cut),
    "bomb.png": ("huge", bomb),
    "tiny.png": ("tiny", lambda path: scene(7005, 31).save(path)),
    "white.jpg": ("blank", lambda path: Image.new("RGB", (200, 200), (250, 250, 245)).save(path)),
    "moving.gif": ("animated", several),
    "png.jpg": ("wrong_extension", lambda path: scene(7006).save(path, "PNG")),
    "cmyk.jpg": ("odd_colours", lambda path: scene(7007).convert("CMYK").save(path)),
    "clear.png": ("odd_colours", lambda path: scene(7008).convert("RGBA").save(path)),
    "grey.jpg": ("odd_colours", lambda path: scene(7009).convert("L").save(path)),
    "sixteen.png": ("odd_colours", sixteen),
    "turned.jpg": ("turned", turned),
}


def test_photos_that_are_well_raise_nothing(garden: Path) -> None:
    assert found(garden) == {}


def test_every_planted_fault_is_found_and_nothing_else(garden: Path) -> None:
    expected: dict[str, set[str]] = {}
    for name, (rule, plant) in FAULTS.items():
        plant(garden / RAW / ONE / name)
        expected.setdefault(rule, set()).add(f"{ONE}/{name}")
    assert found(garden) == expected


def test_copies_and_labels_in_conflict(garden: Path) -> None:
    one, other = garden / RAW / ONE, garden / RAW / OTHER
    shutil.copyfile(one / "0.jpg", one / "bytes.jpg")
    Image.open(one / "1.jpg").save(one / "pixels.png")
    Image.open(one / "2.jpg").save(other / "pixels.png")
    Image.open(other / "3.jpg").save(other / "again.jpg", quality=60)
    Image.open(other / "4.jpg").resize((60, 60)).save(one / "smaller.jpg", quality=80)
    assert found(garden) == {
        "copies": {f"{ONE}/{name}" for name in ("0.jpg", "bytes.jpg", "1.jpg", "pixels.png")},
        "conflicts": {f"{ONE}/2.jpg", f"{OTHER}/pixels.png"},
        "near_copies": {f"{OTHER}/3.jpg", f"{OTHER}/again.jpg"},
        "near_conflicts": {f"{OTHER}/4.jpg", f"{ONE}/smaller.jpg"},
    }


def test_a_class_that_was_half_copied_stops_and_an_uneven_one_warns(garden: Path) -> None:
    for number in range(5):
        (garden / RAW / ONE / f"{number}.jpg").write_bytes(b"")
    for number in range(30):
        scene(2000 + number).save(garden / RAW / OTHER / f"more{number}.jpg")
    levels = {one.rule: one.level for one in seen(garden).findings}
    assert levels["broken_class"] == "stop"
    assert levels["imbalance"] == "warn"
    assert "stop" not in {level for rule, level in levels.items() if rule != "broken_class"}


@pytest.mark.parametrize("level", ["ignore", "note", "stop"])
def test_rules_say_what_a_finding_means(garden: Path, level: str) -> None:
    (garden / RAW / ONE / "empty.jpg").write_bytes(b"")
    config = garden / "config.yaml"
    text = config.read_text()
    assert "    empty: warn" in text
    config.write_text(text.replace("    empty: warn", f"    empty: {level}"))
    assert [one.level for one in seen(garden).findings if one.rule == "empty"] == ([] if level == "ignore" else [level])


def test_drawn_sample_leaves_raise_nothing(garden: Path) -> None:
    shutil.rmtree(garden / RAW)
    sample.draw(garden / RAW, classes=2, per_class=12, seed=1)
    assert found(garden) == {}


@pytest.mark.ci
def test_real_photos_are_clean_and_the_odd_ones_among_them_are_named(garden: Path, photos: Path) -> None:
    shutil.rmtree(garden / RAW)
    shutil.copytree(photos, garden / RAW)
    assert seen(garden).findings == ()
    for path in sorted((PHOTOS.parent / "odd").iterdir()):
        shutil.copyfile(path, garden / RAW / "Potato___Early_blight" / path.name)
    names = {rule: {path.partition("/")[2] for path in paths} for rule, paths in found(garden).items()}
    odd = {path.name for path in (PHOTOS.parent / "odd").iterdir()}
    assert names.keys() == {"empty", "odd_colours", "near_copies"}
    assert [len(names[rule] & odd) for rule in ("empty", "odd_colours", "near_copies")] == [1, 1, 1]
    assert len(names["near_copies"]) == 2


@pytest.mark.ci
def test_field_photos_that_dvc_does_not_know_are_said(project: Path) -> None:
    field = project / "data/field/Potato___Late_blight"
    assert "field_untracked" not in found(project)
    photo(field / "a.jpg", (90, 120, 30))

    def warned() -> list[str]:
        return [one.sentence for one in seen(project).findings if one.rule == "field_untracked"]

    (sentence,) = warned()
    assert "1 photo not under DVC: dvc add data/field/Potato___Late_blight" in sentence
    assert sentence.startswith("field photos are judged that DVC does not know as they are")
    sh("dvc", "add", "--quiet", field, cwd=project)
    assert warned() == []
    photo(field / "b.jpg", (30, 120, 90))
    (sentence,) = warned()
    assert "1 → 2 photos since its dvc add" in sentence
