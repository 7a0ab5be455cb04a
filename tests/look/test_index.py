"""A second look opens only what is new; told by the files that Python opens."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from look.scenes import ONE, OTHER, RAW, scene, seen
from plantops import scan
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
