"""What is asked of git, in a repository of somebody who likes to see things in his own way."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import sh
from plantops import git


@pytest.mark.parametrize(
    "setting", ["color.ui=always", "diff.noprefix=true", "diff.mnemonicPrefix=true", "diff.shout.textconv=tr a-z A-Z <"]
)
def test_what_was_not_committed_can_be_applied_again(project: Path, setting: str) -> None:
    key, _, value = setting.partition("=")
    sh("git", "config", key, value, cwd=project)
    (project / ".git/info/attributes").write_text("params.yaml diff=shout\n")
    changed = (project / "params.yaml").read_text().replace("seed: 1", "seed: 2")
    (project / "params.yaml").write_text(changed)
    (project / ".git/patch").write_text(git.state(project).diff)
    sh("git", "checkout", "-q", "params.yaml", cwd=project)
    sh("git", "apply", ".git/patch", cwd=project)
    assert (project / "params.yaml").read_text() == changed
