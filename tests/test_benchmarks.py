"""The benchmarks run; what they measure is not judged here, because machines differ."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from conftest import ROOT, sh

pytestmark = pytest.mark.ci

FOLDER = ROOT / "benchmarks"


@pytest.mark.parametrize(
    "name",
    [
        "check",
        "data",
        "drift",
        "finetune",
        "gate",
        "image",
        "nochange",
        "overhead",
        "recipe",
        "releases",
        "scale",
        "serving",
        "sides",
        "split",
        "strangers",
        "watch",
    ],
)
def test_each_says_what_it_measures(name: str, tmp_path: Path) -> None:
    said = sh(sys.executable, FOLDER / f"{name}.py", "--help", cwd=tmp_path).stdout
    assert "Aim" in said
    assert "--rounds" in said


def test_the_gates_errors_are_counted(tmp_path: Path) -> None:
    options = ["--rounds", "20", "--sizes", "150/150", "--falls", "0", "0.3", "--jobs", "1"]
    said = sh(sys.executable, FOLDER / "gate.py", *options, cwd=tmp_path).stdout
    alike, worse = (line.strip("| ").split(" | ") for line in said.splitlines()[-2:])
    assert alike[:2] == ["150/150", "+0.00"]
    assert worse[2:] == ["0.0%", "0.0%", "100.0%", "0.0%"]


@pytest.mark.ci
@pytest.mark.parametrize(("name", "rival"), [("check", "dvc status"), ("nochange", "dvc repro")])
def test_a_small_one_prints_its_table(name: str, rival: str, tmp_path: Path) -> None:
    work = tmp_path / "work"
    said = sh(sys.executable, FOLDER / f"{name}.py", "--sizes", "3x120", "--rounds", "1", "--work", work, cwd=tmp_path)
    rows = [line.split(" | ") for line in said.stdout.splitlines() if line.startswith("| 3x120")]
    assert rows[0][1] == f"`{rival}`"
    assert all(float(row[3].rstrip(" |")) > 0 for row in rows[:2])
    assert not (work / "3x120/.plantops/local/control.sock").exists(), "the API of the benchmark is left running"


@pytest.mark.ci
def test_looks_are_measured_beside_dvc_and_watch_idle_and_after_a_change(tmp_path: Path) -> None:
    options = ["--sizes", "3x120", "--rounds", "1", "--seconds", "1", "--changes", "1", "--changed", "3x120"]
    said = sh(sys.executable, FOLDER / "watch.py", *options, "--work", tmp_path / "work", cwd=tmp_path).stdout
    rows = [line.strip("| ").split(" | ") for line in said.splitlines() if line.startswith("| 3 | 120")]
    assert [row[2] for row in rows[:2]] == ["`dvc status`", "`dvc data status`"]
    assert all(int(row[4].removesuffix(" MiB")) > 0 and float(row[5]) > 0 for row in rows[:4])
    share, resident = rows[4][2:]
    assert float(share.removesuffix(" %")) < 100
    assert int(resident.removesuffix(" MiB")) > 0
    assert (rows[5][2], len(rows[5])) == ("1", 6)
