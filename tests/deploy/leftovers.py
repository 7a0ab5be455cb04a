"""Processes that a test left behind."""

from __future__ import annotations

from pathlib import Path


def left_over(root: Path) -> list[str]:
    """Processes whose command line or working directory names the project."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words, place = (entry / "cmdline").read_bytes().decode(), str((entry / "cwd").readlink())
            except OSError:
                continue
            if str(root) in words or str(root) in place:
                found.append(words)
    return found
