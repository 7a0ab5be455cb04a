"""The pages that people read, and the blocks of commands in them."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import ROOT

README, GUIDE, OPERATIONS = ROOT / "README.md", ROOT / "docs/fr/guide.md", ROOT / "docs/operations.md"
PAGES = [README, *sorted(ROOT.glob("docs/**/*.md"))]


def blocks(page: Path) -> list[str]:
    """What is in its ```bash fences."""
    return re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def block(page: Path, word: str) -> str:
    """The one block of a page in which that is typed first."""
    (found,) = [one for one in blocks(page) if word in one.splitlines()[0]]
    return found


def code(page: Path) -> list[str]:
    """What stands in its text between backticks."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", text)
