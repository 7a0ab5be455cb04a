"""The files that a new project is made from: in the wheel they lie in the package, in a clone at its root."""

from __future__ import annotations

import re
from pathlib import Path

_PACKAGE = Path(__file__).parent


def template(name: str) -> Path:
    """Where a file (or a folder of them) lies, by its name in a project."""
    packed = _PACKAGE / "templates" / name.lstrip(".")
    return packed if packed.exists() else _PACKAGE.parents[1] / name


def line(name: str, section: str, key: str) -> str:
    """The line of a YAML template that gives ``key`` in ``section``, as it ships; ``key: …`` where there is none."""
    inside = re.search(rf"^{section}:\n((?:[ #].*\n|\n)*)", template(name).read_text(encoding="utf-8"), re.MULTILINE)
    found = re.search(rf"^  {key}:.*$", inside[1], re.MULTILINE) if inside else None
    return found[0] if found else f"  {key}: …"
