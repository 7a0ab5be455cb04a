"""What lies in the folder of photos: the hash agrees with the real DVC, and what moves is noticed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import yaml

from conftest import sh
from plantops import dirhash
from plantops.errors import StepFailed
from plantops.ml.survey import check_unmoved, survey

STAGE = {"stages": {"look": {"cmd": "true", "deps": ["raw"]}}}


def md5s(raw: Path) -> dict[str, str]:
    return {path: hashlib.md5((raw / path).read_bytes()).hexdigest() for path in survey(raw).files}


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
    before, hashes = survey(raw), md5s(raw)
    check_unmoved(raw, before, hashes)
    os.utime(raw / "A/1.jpg", (1, 1))
    (raw / ".gitignore").write_text("/A\n")
    check_unmoved(raw, before, hashes)


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
    before, hashes = survey(raw), md5s(raw)
    move(raw)
    with pytest.raises(StepFailed, match="photos moved while they were read") as raised:
        check_unmoved(raw, before, hashes)
    assert said in raised.value.message
