"""The pipelines that `plantops ci` writes, and the clone's own: by the published schemas, and what they must not do."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT, plantops, sh
from plantops import ci

SCHEMAS = {"github": "vendor.github-workflows", "gitlab": "vendor.gitlab-ci"}
OWN = ROOT / ".github/workflows/ci.yml"
KINDS = list(itertools.product(SCHEMAS, (ci.HOSTED, ci.OWN), ("", "s3", "gs", "azure"), (True, False)))


def valid(kind: str, *files: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS[kind]]
    return sh(*argv, *(["--data-transform", "gitlab-ci"] if kind == "gitlab" else []), *files, cwd=ROOT, check=False)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_pipeline_is_one_by_the_published_schema(kind: str, tmp_path: Path) -> None:
    files = []
    for number, (one, runner, scheme, clone) in enumerate(KINDS):
        if one == kind:
            files.append(tmp_path / f"{number}.yml")
            files[-1].write_text(ci.text(one, runner, scheme, "main", clone))  # type: ignore[arg-type]
    said = valid(kind, *files, *([OWN] if kind == "github" else []))
    assert said.returncode == 0, said.stdout
    right, wrong = {"github": ("runs-on:", "runs-at:"), "gitlab": ("when: always", "when: sometimes")}[kind]
    files[0].write_text(files[0].read_text().replace(right, wrong))
    assert valid(kind, files[0]).returncode == 1  # it does look


def jobs(text: str) -> dict[str, Any]:
    return yaml.safe_load(text)["jobs"]


@pytest.mark.parametrize(("kind", "runner", "scheme", "clone"), KINDS)
def test_no_mark_is_left_and_the_shell_understands_it(kind: Any, runner: str, scheme: str, clone: bool) -> None:
    text = ci.text(kind, runner, scheme, "main", clone)
    assert not re.search(r"#: |@\w+@| $", text, re.MULTILINE)
    assert ("scripts/setup" in text) == clone
    if kind == "github":
        scripts = [step["run"] for job in jobs(text).values() for step in job["steps"] if "run" in step]
    else:
        found = [one for one in yaml.safe_load(text).values() if isinstance(one, dict)]
        lists = [one.get(key, []) for one in found for key in ("before_script", "script", "after_script")]
        scripts = ["\n".join(one) for one in lists]
    for one in scripts:
        assert subprocess.run(["bash", "-n"], input=one, text=True).returncode == 0, one
        assert "${{" not in one  # what a pull request says never becomes part of a script


@pytest.mark.parametrize("runner", [ci.HOSTED, ci.OWN])
def test_a_strangers_pull_request_runs_nowhere_and_pieces_are_pinned(runner: str) -> None:
    text = ci.text("github", runner, "s3", "main", False)
    found, report, release = yaml.safe_load(text), jobs(text)["report"], jobs(text)["release"]
    assert "head.repo.full_name == github.repository" in report["if"]
    assert release["if"] == "github.event_name == 'push'"
    assert "pull_request_target" not in text
    assert found["permissions"] == {"contents": "read"}
    assert report["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert "permissions" not in release
    for used in re.findall(r"uses: (\S+)", text + OWN.read_text()):
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", used)
    assert ("--skip-deploy" in str(release)) == (runner == ci.HOSTED)
    assert "--skip-deploy" in str(report)
    assert ("secrets." in text) == (runner == ci.HOSTED)
    gitlab = yaml.safe_load(ci.text("gitlab", runner, "s3", "main", False))
    (rule,) = gitlab["report"]["rules"]
    assert "$CI_MERGE_REQUEST_SOURCE_PROJECT_ID == $CI_MERGE_REQUEST_PROJECT_ID" in rule["if"]


@pytest.mark.ci
def test_it_never_overwrites(project: Path) -> None:
    sh("dvc", "remote", "add", "-d", "store", "s3://bucket/photos", cwd=project)
    said = plantops("ci", "github", cwd=project).stdout
    assert "AWS_ACCESS_KEY_ID" in said
    file = project / ".github/workflows/plantops.yml"
    assert "dvc-s3" in file.read_text()
    assert "there already" in plantops("ci", "github", cwd=project).stdout
    file.write_text("mine")
    refused = plantops("ci", "github", cwd=project, check=False)
    assert (refused.returncode, file.read_text()) == (2, "mine")
    plantops("ci", "github", "--runner", "self-hosted", "--force", cwd=project)
    assert "self-hosted" in file.read_text()
    assert plantops("ci", "gitlab", cwd=project).stdout.startswith("written: .gitlab-ci.yml")
