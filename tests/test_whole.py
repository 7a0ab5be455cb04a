"""Folders and files that are there whole or not at all: the process dies in the middle, for real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from plantops import whole

# A program that kills itself before the n-th change to the disk that it makes: audit events come before the change.
DYING = """
import os, signal, sys
from pathlib import Path
from plantops import whole
left = int(sys.argv[1])
def strike(event, arguments):
    global left
    if event in ("os.remove", "os.rmdir", "os.rename", "os.mkdir") or (event == "open" and arguments[1] in ("w", "wb")):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(strike)
"""
FILES = {"a": "1", "b": "2", "inside/c": "3"}


def fill(folder: Path) -> None:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def contents(folder: Path) -> dict[str, str]:
    return {str(one.relative_to(folder)): one.read_text() for one in folder.rglob("*") if one.is_file()}


def killed_at(point: int, what: str, folder: Path) -> bool:
    """Whether the program was killed; False when it came to its end before that."""
    code = subprocess.run([sys.executable, "-c", DYING + what, str(point)], cwd=folder, check=False).returncode
    assert code in (0, -signal.SIGKILL)
    return code != 0


@pytest.mark.ci
@pytest.mark.parametrize(
    "what",
    [
        "whole.vanish(Path('x'))",
        "whole.appear(Path('x'), lambda new: (new.joinpath('a').write_text('1'), new.joinpath('b').write_text('2')))",
    ],
)
def test_killed_anywhere_a_folder_is_whole_or_gone(tmp_path: Path, what: str) -> None:
    for point in range(30):
        if not (tmp_path / "x").exists():
            whole.appear(tmp_path / "x", fill)
        going_on = killed_at(point, what, tmp_path)
        shown = [one.name for one in tmp_path.iterdir() if not one.name.startswith(".")]
        assert shown in ([], ["x"])
        if shown:
            assert contents(tmp_path / "x") in (FILES, {"a": "1", "b": "2"})
        if not going_on:
            assert point > 3
            assert [one.name for one in tmp_path.iterdir()] == shown
            return
    pytest.fail("it never came to its end")


def test_what_a_killed_call_left_is_no_obstacle(tmp_path: Path) -> None:
    for ending in (whole.NEW, whole.GONE):
        fill_half = tmp_path / f".x{ending}"
        fill_half.mkdir()
        (fill_half / "half").write_text("half")
    whole.appear(tmp_path / "x", fill)
    whole.appear(tmp_path / "x", fill)
    assert contents(tmp_path / "x") == FILES
    whole.vanish(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_filled_takes_no_room_and_the_old_one_stays(tmp_path: Path) -> None:
    def fill_half(folder: Path) -> None:
        fill(folder)
        Path("/dev/full").write_text("more")

    whole.appear(tmp_path / "x", fill)
    with pytest.raises(OSError, match="No space left"):
        whole.appear(tmp_path / "x", fill_half)
    assert [one.name for one in tmp_path.iterdir()] == ["x"]
    assert contents(tmp_path / "x") == FILES


def test_a_file_holds_the_old_or_the_new_text(tmp_path: Path) -> None:
    whole.write(tmp_path / "folder/x.json", "old")
    what = "whole.write(Path('folder/x.json'), 'new ' * 10)"
    for point in range(10):
        if not killed_at(point, what, tmp_path):
            break
        assert (tmp_path / "folder/x.json").read_text() == "old"
    assert 1 < point < 9
    assert (tmp_path / "folder/x.json").read_text() == "new " * 10
    assert os.listdir(tmp_path / "folder") == ["x.json"]
