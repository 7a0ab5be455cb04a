"""Reports and field photos in a run: kept with the release, logged, shown; and what DVC makes of data/field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import plantops, sh
from runs import cheap

pytestmark = pytest.mark.ci


def stale(folder: Path) -> set[str]:
    """Stages that DVC would run for their own inputs."""
    return set(json.loads(sh("dvc", "status", "--json", cwd=folder).stdout))


def test_reports_stay_with_the_release_and_field_photos_start_an_evaluation(project: Path) -> None:
    field = project / "data/field"
    (field / ".gitkeep").unlink()
    field.rmdir()  # as in a project that was made before there were field photos
    assert plantops("show", cwd=project, check=False).returncode == 2
    plantops("run", "--skip-deploy", cwd=project)
    assert field.is_dir()
    assert stale(project) == set()

    (one,) = json.loads(plantops("releases", "--json", cwd=project).stdout)
    told = json.loads(plantops("show", one["id"], "--json", cwd=project).stdout)
    accuracy = json.loads((project / "metrics/evaluation.json").read_text())["accuracy"]
    assert set(told["reports"]) == {"data", "evaluation", "model_card"}
    for name, path in told["reports"].items():
        assert Path(path).parent == project / "models/releases" / one["id"] / "reports"
        assert name == "data" or Path(path).read_text() == f"accuracy {accuracy:.3f}", name
    said = plantops("show", one["id"][:12], cwd=project).stdout
    assert all(path in said for path in told["reports"].values())
    assert "no release is called nobody" in plantops("show", "nobody", cwd=project, check=False).stderr
    logged = [path.name for path in (project / "mlruns").rglob("reports/*")]
    assert sorted(logged) == ["data.html", "evaluation.html", "model_card.md"]

    name = next(iter(cheap.CLASSES))
    cheap.leaves(field / name, cheap.CLASSES[name], 2, seed=7)
    sh("dvc", "add", "--quiet", field / name, cwd=project)
    sh("git", "add", ".", cwd=project)
    sh("git", "commit", "-q", "-m", "Add field photos", cwd=project)
    assert stale(project) == {"evaluate"}
    said = plantops("check", cwd=project).stdout
    assert f"data/field/{name}" in said or name in said
    assert "evaluate" in said
    assert "prepare_data" not in said
    ran = plantops("run", "--skip-deploy", cwd=project).stdout
    assert "ran evaluate" in ran
    assert stale(project) == set()
