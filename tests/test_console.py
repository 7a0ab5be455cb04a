"""Lines, bars and colours: plain in a pipe, colour only on a terminal that wants it, everything in the log."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from plantops import console
from plantops.console import Console

SCRIPT = (
    "from plantops.console import Console\nc = Console()\nc.say('fine', 'green')\n"
    "c.bar('photos', 1, 2)\nc.bar('photos', 2, 2)\nc.say('done')\n"
)


def on_a_terminal(**environment: str) -> str:
    """What the script prints on a real pseudo-terminal."""
    ours, theirs = pty.openpty()
    env = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm"} | environment
    child = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=theirs, env=env)
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 4096):
            seen += part
    except OSError:
        pass  # the other side is closed
    child.wait()
    os.close(ours)
    return seen.decode()


def test_terminal_has_colour_and_a_bar() -> None:
    seen = on_a_terminal()
    assert "\033[32mfine\033[0m" in seen
    assert "█" in seen


def test_no_color_is_honoured() -> None:
    seen = on_a_terminal(NO_COLOR="1")
    assert "\033[32m" not in seen
    assert "fine" in seen


def test_pipe_gets_plain_lines_and_no_bar_for_short_work() -> None:
    out = io.StringIO()
    one = Console(out)
    one.say("fine", "green")
    one.bar("photos", 1, 2)
    one.bar("photos", 2, 2)
    assert out.getvalue() == "fine\n"


def test_long_work_in_a_pipe_says_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_PLAIN_EVERY_S", 0.0)
    out = io.StringIO()
    one = Console(out)
    for done in (1, 2, 3):
        one.bar("photos", done, 3)
    assert out.getvalue() == "  photos 1/3\n  photos 2/3\n  photos 3/3\n"


def test_stage_progress_is_relayed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTOPS_RUN", "r")
    console.report("photos", 2, 4, "of oak")
    line = capsys.readouterr().out.rstrip("\n")
    out = io.StringIO()
    assert Console(out).relay(line)
    assert not Console(out).relay("photos 2/4")


def test_log_holds_what_was_said_before_it_was_opened(tmp_path: Path) -> None:
    one = Console(io.StringIO())
    one.say("early")
    one.log_to(tmp_path / "run.log")
    one.say("late", "red")
    one.log_to(None)
    assert (tmp_path / "run.log").read_text() == "early\nlate\n"


def test_a_log_that_cannot_be_written_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/dev/full")
    one = Console(io.StringIO())
    one.log_to(tmp_path / "log")
    with pytest.raises(OSError, match="No space left"):
        one.say("one")
    one.say("two")
    one.log_to(tmp_path / "another")
    one.log_to(None)
    assert (tmp_path / "another").read_text() == "two\n"
