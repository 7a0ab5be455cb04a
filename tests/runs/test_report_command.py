"""`plantops report` on a branch: against main by git and DVC, the working tree as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import photo, plantops, sh
from plantops import dvc
from runs.cheap import CLASSES, RAW, commit, edit, leaves
from test_review import row

pytestmark = pytest.mark.ci


def test_a_branch_against_main(project: Path, tmp_path: Path) -> None:
    sh("dvc", "remote", "add", "-d", "disk", tmp_path / "remote", cwd=project)
    plantops("run", "--skip-deploy", cwd=project)
    sh("git", "commit", "-qam", "Run it", cwd=project)
    sh("dvc", "push", "-q", cwd=project)
    (old,) = [
        one["md5"] for one in (dvc.lock_entry(project, "evaluate") or {})["outs"] if "evaluation.json" in one["path"]
    ]

    sh("git", "switch", "-qc", "topic", cwd=project)
    pepper = next(iter(CLASSES))
    leaves(project / RAW / pepper, CLASSES[pepper], 4, seed=5)
    edit(project / "params.yaml", "label_smoothing: 0.1", "label_smoothing: 0.95")
    commit(project, "Add peppers, and smooth everything away")
    assert plantops("run", "--skip-deploy", cwd=project, check=False).returncode == 4
    photo(project / "plots/confusion.png", (9, 9, 9))
    before = sh("git", "status", "--porcelain", "--branch", cwd=project).stdout

    said = plantops("report", "--against", "main", cwd=project).stdout
    assert "❌ Refused" in said
    score = row(said, "accuracy")
    assert score[1] == "1.000"
    assert score[3].startswith("❌ -0.")
    name = pepper.replace("_", "\\_")
    assert row(said.partition("### Data")[2].partition("### Class")[0], name)[1:6] == ["20", "24", "4", "", ""]
    assert row(said, "train.label\\_smoothing")[1:] == ["0.1", "0.95"]

    # The release that was accepted, by its name, says the same of the scores.
    release = plantops("releases", "--json", cwd=project).stdout.partition('"id": "')[2].partition('"')[0]
    assert row(plantops("report", "--against", release, cwd=project).stdout, "accuracy") == score

    # What main's metrics are is also told where only DVC's remote has them.
    (project / ".dvc/cache/files/md5" / old[:2] / old[2:]).unlink()
    page = project / "report.html"
    plantops("report", "--html", "--against", "main", "--output", str(page), cwd=project)
    html = page.read_text()
    page.unlink()
    assert f'<td class="n">1.000</td><td class="n">{score[2]}</td><td class="n bad">' in html
    assert html.count("data:image/png;base64,") == 1
    assert "http" not in html
    assert sh("git", "status", "--porcelain", "--branch", cwd=project).stdout == before
