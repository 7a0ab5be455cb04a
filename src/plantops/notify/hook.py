"""A program of the user's, called when something happened."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from plantops import process
from plantops.errors import SetupError, StepFailed
from plantops.notify.letter import News


def check(program: Path) -> None:
    """Raise SetupError unless it is a program of ours or of root's that not everybody may change or replace."""
    try:
        real = program.resolve(strict=True)
        found, above = real.stat(), real.parent.stat()
    except OSError as error:
        raise SetupError(f"{program} cannot be used: {error.strerror}", f"ls -l {program}") from None
    if not stat.S_ISREG(found.st_mode) or not os.access(real, os.X_OK):
        raise SetupError(f"{program} is no program", f"chmod +x {program}")
    if found.st_uid not in (0, os.geteuid()):
        raise SetupError(f"{program} is neither ours nor root's", f"ls -l {program}")
    if found.st_mode & stat.S_IWOTH:
        raise SetupError(f"everybody may change {program}", f"chmod o-w {program}")
    if above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
        raise SetupError(f"everybody may put another file in the place of {program}", f"chmod o-w {real.parent}")


def variables(news: News) -> dict[str, str]:
    """What it is told. ``PLANTOPS_RUN`` itself marks processes that belong to a run, and end with it."""
    named = {
        "PLANTOPS_EVENT": news.event,
        "PLANTOPS_PROJECT": news.project,
        "PLANTOPS_RUN_ID": news.run,
        "PLANTOPS_RELEASE": news.release,
        "PLANTOPS_TITLE": news.title,
        "PLANTOPS_TEXT": news.text,
        "PLANTOPS_AT": news.at,
    }
    numbers = {f"PLANTOPS_{name.upper()}": f"{value:.4f}" for name, value in news.numbers.items()}
    return {**named, **numbers, **{f"PLANTOPS_{name.upper()}_URL": url for name, url in news.links.items()}}


def run(program: Path, news: News, root: Path, log: Path, limit_s: float) -> str:
    """Run it in ``root``, ``limit_s`` seconds at most, its output appended to ``log``.

    Raises SetupError when it may not be run, StepFailed when it failed or took too long.
    """
    check(program)
    try:
        status = process.limited([str(program)], root, log, limit_s, variables(news))
    except OSError as error:
        raise StepFailed(f"{program.name} did not start: {error.strerror}", f"ls -l {program}") from None
    if status:
        raise StepFailed(f"{program.name} ended with status {status} (less {log})", f"less {log}")
    return "ended with status 0"
