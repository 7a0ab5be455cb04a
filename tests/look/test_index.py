"""A second look opens only what is new; told by the files that Python opens."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import sh
from look.scenes import ONE, OTHER, RAW, scene, seen
from plantops import scan
from plantops.look.facts import VERSION
from plantops.store import Store

_opened: list[str] | None = None


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _opened is not None:
        _opened.append(str(arguments[0]))


@pytest.fixture(scope="module", autouse=True)
def _listening() -> None:
    sys.addaudithook(_hook)


@contextmanager
def opened(raw: Path) -> Iterator[list[str]]:
    """The photos below ``raw`` that were opened meanwhile."""
    global _opened
    _opened, found = [], list[str]()
    try:
        yield found
    finally:
        found += sorted({Path(one).relative_to(raw).as_posix() for one in _opened if one.startswith(f"{raw}/")})
        _opened = None


def test_a_second_look_opens_only_what_is_new(garden: Path) -> None:
    raw = garden / RAW
    with opened(raw) as first:
        before = seen(garden)
    assert len(first) == before.read == 16
    with opened(raw) as second:
        assert seen(garden).findings == before.findings
    assert second == []
    scene(5000).save(raw / ONE / "new.jpg")
    scene(5001).save(raw / ONE / "0.jpg")
    with opened(raw) as third:
        assert seen(garden).read == 2
    assert third == [f"{ONE}/0.jpg", f"{ONE}/new.jpg"]


def test_a_photo_that_moves_is_hashed_and_not_decoded_again(garden: Path) -> None:
    assert seen(garden).read == 16
    (garden / RAW / ONE / "3.jpg").rename(garden / RAW / OTHER / "came.jpg")
    after = seen(garden)
    assert after.read == 0
    assert f"{OTHER}/came.jpg" in {one.path for one in after.photos}


def test_looks_at_photos_that_are_no_more_are_forgotten(garden: Path) -> None:
    before = {one.md5 for one in seen(garden).photos}
    for number in range(8):
        scene(6000 + number).save(garden / RAW / ONE / f"{number}.jpg")
    now = {one.md5 for one in seen(garden).photos}
    assert len(before - now) == 8
    with Store(garden / ".plantops") as store:
        assert store.looks(VERSION, before | now).keys() == now


def test_a_copy_is_decoded_in_full_once(garden: Path) -> None:
    shutil.copyfile(garden / RAW / ONE / "0.jpg", garden / RAW / OTHER / "copy.jpg")
    assert [one.rule for one in seen(garden).at("warn")].count("conflicts") == 1
    with opened(garden / RAW) as again:
        assert "conflicts" in [one.rule for one in seen(garden).findings]
    assert again == []


@pytest.mark.ci
def test_what_a_look_has_hashed_is_not_hashed_again_by_check(project: Path) -> None:
    raw = project / RAW
    with opened(raw) as first:
        assert seen(project).read == 6
    assert len([one for one in first if one.endswith(".jpg")]) == 6
    with opened(raw) as second, Store(project / ".plantops") as store:
        assert scan.loose(project, raw, store) == []
    assert [one for one in second if one.endswith(".jpg")] == []


def peak(project: Path) -> int:
    """KiB that `plantops data` holds in memory at most."""
    code = """
import atexit, sys
from plantops.__main__ import main
atexit.register(lambda: print(open("/proc/self/status").read(), file=sys.stderr))
sys.argv = ["plantops", "data", "--json"]
main()
"""
    said = sh(sys.executable, "-c", code, cwd=project).stderr
    return next(int(line.split()[1]) for line in said.splitlines() if line.startswith("VmHWM:"))


@pytest.mark.ci
def test_memory_does_not_grow_with_the_photos(garden: Path) -> None:
    raw, random, peaks = garden / RAW, np.random.default_rng(1), []
    shutil.rmtree(raw)
    for number in range(20_000):
        folder = raw / f"Class {number % 20:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        shown = random.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
        Image.fromarray(shown).save(folder / f"{number}.bmp")
        if number + 1 in (2_000, 20_000):
            peaks.append(peak(garden))
    assert peaks[1] < 1.2 * peaks[0]
