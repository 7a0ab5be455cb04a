"""What lies in the folder of photos: the hash agrees with the real DVC, and what moves is noticed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import sh
from plantops import dirhash
from plantops.errors import StepFailed
from plantops.ml.survey import Known, check_unmoved, survey, walk

STAGE = {"stages": {"look": {"cmd": "true", "deps": ["raw"]}}}


def md5s(raw: Path) -> dict[str, str]:
    return {path: hashlib.md5((raw / path).read_bytes()).hexdigest() for path in survey(raw).files}


def known(raw: Path) -> list[Known]:
    hashes = md5s(raw)
    return [Known(path, hashes[path], signature) for path, signature in walk(raw, [])]


@pytest.mark.ci
def test_the_hash_of_the_folder_is_the_one_that_dvc_records(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    names = ("Pepper,_bell/ü 1.jpg", "Pepper,_bell/deep/2.jpg", "(a) b/3.jpg", ".DS_Store", "notes.csv")
    for name in (*names, ".gitignore", "(a) b/.gitkeep"):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).write_text(name)
    (tmp_path / "one.jpg").write_text("linked")
    (raw / "(a) b/link.jpg").symlink_to(tmp_path / "one.jpg")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/4.jpg").write_text("not followed")
    (raw / "folder link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(STAGE))
    (tmp_path / ".dvcignore").write_text("raw/**/.gitignore\nraw/**/.gitkeep\n")
    sh("git", "init", "-q", cwd=tmp_path)
    sh("dvc", "init", "-q", cwd=tmp_path)
    sh("dvc", "add", "raw/Pepper,_bell", cwd=tmp_path)
    sh("dvc", "repro", "look", cwd=tmp_path)
    recorded = yaml.safe_load((tmp_path / "dvc.lock").read_text())["stages"]["look"]["deps"][0]["md5"]
    assert "Pepper,_bell.dvc" in survey(raw).files
    assert dirhash.directory(md5s(raw).items()) == recorded
    assert survey(raw).links == ("folder link",)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for name in ("A/1.jpg", "A/2.jpg", "B/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_what_stays_is_no_move_even_when_it_is_touched(raw: Path) -> None:
    before = known(raw)
    check_unmoved(raw, before)
    os.utime(raw / "A/1.jpg", (1, 1))
    (raw / ".gitignore").write_text("/A\n")
    check_unmoved(raw, before)


@pytest.mark.parametrize(
    ("move", "said"),
    [
        (lambda raw: (raw / "B/2.jpg").write_text("new"), "B/2.jpg came"),
        (lambda raw: (raw / "A/2.jpg").unlink(), "A/2.jpg went"),
        (lambda raw: (raw / "B/1.jpg").write_text("other"), "B/1.jpg changed"),
        (lambda raw: (raw / "B.dvc").write_text("outs: []"), "B.dvc came"),
    ],
)
def test_what_moves_is_named(raw: Path, move, said: str) -> None:  # type: ignore[no-untyped-def]
    before = known(raw)
    move(raw)
    with pytest.raises(StepFailed, match="photos moved while they were read") as raised:
        check_unmoved(raw, before)
    assert said in raised.value.message


@pytest.mark.parametrize("last", ["A", "A-b", "A.jpg", "B"])
def test_what_comes_goes_and_changes_together_is_told_in_one_walk(raw: Path, last: str) -> None:
    before = known(raw)
    (raw / "A/1.jpg").unlink()
    (raw / "A/0.jpg").write_text("new")
    (raw / "B/1.jpg").write_text("other")
    (raw / f"{last}-").mkdir()
    (raw / f"{last}-/9.jpg").write_text("new")
    with pytest.raises(StepFailed) as raised:
        check_unmoved(raw, before)
    told = sorted(["A/0.jpg came", f"{last}-/9.jpg came"])
    assert raised.value.message.partition(": ")[2] == ", ".join(["A/1.jpg went", "B/1.jpg changed", *told])


names = st.text(st.sampled_from("AB-.0 é"), min_size=1, max_size=3).filter(lambda name: name.strip(".") != "")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(names, min_size=1, max_size=3), max_size=12))
def test_a_walk_is_in_the_order_of_whole_paths(listed: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        raw, made = Path(folder) / "raw", set()
        raw.mkdir()
        for parts in listed:
            with contextlib.suppress(OSError):  # a name that is a file and a folder
                raw.joinpath(*parts).parent.mkdir(parents=True, exist_ok=True)
                raw.joinpath(*parts).write_text("")
                made.add("/".join(parts))
        found = [path for path, _ in walk(raw, [])]
        assert found == sorted(found)
        assert set(found) == {path for path in made if (raw / path).is_file()}
