"""`plantops report` on a branch: against main by git and DVC, the working tree as it was."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
import urllib.parse
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from conftest import photo, plantops, sh
from plantops import ci, dvc
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
    assert "Not done yet" not in said
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


class Notes(http.server.BaseHTTPRequestHandler):
    """GitLab's API, as far as it takes notes: keeps what came."""

    came: ClassVar[list[tuple[str, str, dict[str, list[str]]]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.came.append((self.path, self.headers["PRIVATE-TOKEN"], urllib.parse.parse_qs(body)))
        self.send_response(201)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_the_scripts_of_both_pipelines_do_what_they_say(project: Path, tmp_path: Path) -> None:
    """On a clone that has nothing but git and DVC's remote, as a runner has."""
    sh("dvc", "remote", "add", "-d", "disk", tmp_path / "remote", cwd=project)
    sh("git", "commit", "-qam", "Name a remote", cwd=project)
    sh("dvc", "push", "-q", cwd=project)
    base = sh("git", "rev-parse", "HEAD", cwd=project).stdout.strip()
    edit(project / "params.yaml", "label_smoothing: 0.1", "label_smoothing: 0.2")
    sh("git", "commit", "-qam", "Smooth more", cwd=project)
    sh("git", "clone", "-q", project, tmp_path / "runner", cwd=tmp_path)
    steps = yaml.safe_load(ci.text("github", ci.HOSTED, "", "main", False))["jobs"]["report"]["steps"]
    scripts = {step["name"]: step["run"] for step in steps if "name" in step and "run" in step}
    env = {"BASE": base, "PLACE": "http://here/1", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}

    def shell(script: str, **more: str) -> None:
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script], cwd=tmp_path / "runner", env={**os.environ, **env, **more},
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"

    for name in ("Bring the photos", "Train and judge, without deploying", "Report"):
        shell(scripts[name])
    report = (tmp_path / "runner/report.md").read_text()
    assert (tmp_path / "summary").read_text() == report
    assert row(report, "train.label\\_smoothing")[1:] == ["0.1", "0.2"]
    assert "✅ Accepted" in report
    assert "(http://here/1)" in report

    server = http.server.HTTPServer(("127.0.0.1", 0), Notes)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        after = yaml.safe_load(ci.text("gitlab", ci.OWN, "", "main", False))["report"]["after_script"]
        shell(
            "\n".join(after[1:]), CI_MERGE_REQUEST_DIFF_BASE_SHA=base, CI_JOB_URL="http://here/2",
            PLANTOPS_GITLAB_TOKEN="secret", CI_API_V4_URL=f"http://127.0.0.1:{server.server_port}/api/v4",
            CI_PROJECT_ID="7", CI_MERGE_REQUEST_IID="3",
        )  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()
    ((path, token, sent),) = Notes.came
    assert (path, token) == ("/api/v4/projects/7/merge_requests/3/notes", "secret")
    assert sent["body"] == [(tmp_path / "runner/report.md").read_text()]
