"""`plantops reproduce`: a release that others replaced stands again elsewhere, and trains to the same scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from conftest import plantops, sh
from runs.cheap import CLASSES, RAW, commit, edit, leaves
from test_init import listing

pytestmark = pytest.mark.ci


def test_a_release_stands_again_and_trains_to_the_same(project: Path, tmp_path: Path) -> None:
    sh("dvc", "remote", "add", "-d", "disk", tmp_path / "remote", cwd=project)
    edit(project / "params.yaml", "label_smoothing: 0.1", "label_smoothing: 0.15")  # and not committed
    plantops("run", "--skip-deploy", cwd=project)
    release = json.loads(plantops("releases", "--json", cwd=project).stdout)[0]["id"]
    then = listing(project / RAW)
    sh("dvc", "push", "-q", cwd=project)

    pepper, potato, _ = CLASSES
    leaves(project / RAW / pepper, CLASSES[pepper], 5, seed=4)
    shutil.rmtree(project / RAW / potato)
    (project / RAW / f"{potato}.dvc").unlink()
    commit(project, "Other photos")
    shutil.rmtree(project / ".dvc/cache/files/md5")  # only the remote has the photos of then
    status = sh("git", "status", "--porcelain", "--branch", cwd=project).stdout

    told = plantops("reproduce", release, "--train", "--json", cwd=project)
    again = json.loads(told.stdout)
    folder = Path(again["folder"])
    assert folder == project.with_name(f"{project.name}-{release}")
    assert (again["lacks"], again["photos"], again["trained"]["same_model"]) == ([], 60, True)
    ours = {name for name in then if name.endswith(".jpg")}
    assert {name: listing(folder / RAW)[name] for name in ours} == {name: then[name] for name in ours}
    assert "label_smoothing: 0.15" in (folder / "params.yaml").read_text()
    bundle = project / "models/releases" / release
    assert listing(folder / "models/releases" / release) == listing(bundle)
    assert sh("git", "status", "--porcelain", "--branch", cwd=project).stdout == status

    refused = plantops("reproduce", release, cwd=project, check=False)
    assert (refused.returncode, "is there already" in refused.stderr) == (2, True)
    inside = plantops("reproduce", release, "within", cwd=project, check=False)
    assert (inside.returncode, (project / "within").exists()) == (2, False)
    sh("git", "worktree", "remove", "--force", folder, cwd=project)

    # A score that was another one then is told, and fails.
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["metrics"]["accuracy"] = 0.123
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    wrong = plantops("reproduce", release, "../other", "--train", cwd=project, check=False)
    assert wrong.returncode == 1
    assert "accuracy 0.123" in wrong.stderr


def test_photos_that_are_nowhere_leave_no_worktree(project: Path) -> None:
    plantops("run", "--skip-deploy", cwd=project)
    release = json.loads(plantops("releases", "--json", cwd=project).stdout)[0]["id"]
    shutil.rmtree(project / ".dvc/cache/files/md5")
    lost = plantops("reproduce", release, "../again", cwd=project, check=False)
    assert (lost.returncode, "neither in DVC's cache nor in its remote" in lost.stderr) == (2, True)
    assert not (project.parent / "again").exists()
    assert len(sh("git", "worktree", "list", cwd=project).stdout.splitlines()) == 1
    assert plantops("reproduce", "nobody", cwd=project, check=False).returncode == 2
