"""DVC's remote on S3 in whole runs: what was trained is sent there, and a teammate's clone trains nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import s3
from conftest import plantops, sh
from runs.cheap import RAW, answering, edit

pytestmark = pytest.mark.ci
BUCKET = "photos"


@pytest.fixture
def remote(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str, str]]:
    """The project's default remote is on a server that goes by keys: address, key, secret. The keys are nowhere yet."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with s3.guarded(tmp_path) as (address, key, secret):
        s3.client("s3", address, key, secret).create_bucket(Bucket=BUCKET)
        sh("dvc", "remote", "add", "-d", "team", f"s3://{BUCKET}/dvc", cwd=project)
        sh("dvc", "remote", "modify", "team", "endpointurl", address, cwd=project)
        edit(project / "config.yaml", "push: false                  # send", "push: true # send")
        sh("git", "commit", "-qam", "Work together", cwd=project)
        yield address, key, secret


def test_a_release_is_sent_there_and_a_clone_brings_it(
    project: Path, remote: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, key, secret = remote
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    assert "in the DVC remote team" in plantops("run", cwd=project).stdout
    kept = s3.client("s3", address, key, secret).list_objects_v2(Bucket=BUCKET)["KeyCount"]
    assert kept > 60, "photos, and what the stages made"
    sh("git", "commit", "-qam", "Release it", cwd=project)
    plantops("down", cwd=project)
    other = tmp_path / "other"
    sh("git", "clone", "-q", project, other, cwd=tmp_path)
    try:
        done = plantops("run", cwd=other)
        assert "DVC found nothing to run" in done.stdout
        assert len(list((other / RAW).glob("*/*.jpg"))) == 60
        assert answering(other)
    finally:
        plantops("down", cwd=other, check=False)
    logs = "".join(path.read_text() for one in (project, other) for path in (one / ".plantops/logs").iterdir())
    assert secret not in logs


def test_a_release_without_keys_or_with_wrong_ones_says_so_and_is_sent_later(
    project: Path, remote: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, key, secret = remote
    said = plantops("run", cwd=project).stdout
    assert f"not shared yet: the DVC remote team (s3://{BUCKET}/dvc): there are no credentials for it here" in said
    assert answering(project), "it is a release all the same"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    said = plantops("run", cwd=project).stdout
    assert "it refuses the credentials that are used here" in said
    assert "not-the-secret" not in said
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    assert "in the DVC remote team" in plantops("run", cwd=project).stdout


def test_a_clone_without_keys_says_what_is_missing_before_it_begins(
    project: Path, remote: tuple[str, str, str], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    sh("git", "clone", "-q", project, other, cwd=tmp_path)
    failed = plantops("run", cwd=other, check=False)
    assert failed.returncode == 2
    assert "there are no credentials for it here" in failed.stderr
    assert "dvc remote modify --local team" in failed.stderr
