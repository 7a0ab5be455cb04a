"""The documents as a site: complete, and no link of it leads nowhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from plantops.examples import EXAMPLES

pytestmark = pytest.mark.ci
_PARTS = ("scripts/docs", "README.md", "CHANGELOG.md", "mkdocs.yml", "config.yaml", "docs")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What the site is made of."""
    for name in _PARTS:
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target)
        else:
            shutil.copyfile(ROOT / name, target)
    return tmp_path


def build(clone: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, clone / "scripts/docs"], cwd=clone, capture_output=True, text=True)


def test_it_builds_with_every_command_and_setting_and_asks_nobody(clone: Path) -> None:
    made = build(clone)
    assert made.returncode == 0, made.stderr
    commands = (clone / "dist/docs/commands.md").read_text()
    assert set(re.findall(r"^## plantops (.+)$", commands, re.MULTILINE)) == set(EXAMPLES)
    settings = (clone / "dist/docs/configuration.md").read_text()
    named = set(re.findall(r"^ +(\w+):", (ROOT / "config.yaml").read_text(), re.MULTILINE)) - {"rules", "git"}
    assert named <= {one.rpartition(".")[2] for one in re.findall(r"^\| `([\w.]+)`", settings, re.MULTILINE)}
    front = (clone / "dist/site/index.html").read_text()
    assert not re.findall(r"""<(?:script|link|img)[^>]*(?:src|href)=["']?https?:""", front)


def test_a_link_that_leads_nowhere_fails_it(clone: Path) -> None:
    page = clone / "docs/gate.md"
    page.write_text(page.read_text() + "\n[more](nowhere.md)\n")
    made = build(clone)
    assert made.returncode != 0
    assert "nowhere.md" in made.stderr + made.stdout
