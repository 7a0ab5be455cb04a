"""Options that change what a command looks at: --config, --dry-run; and a run without changes while MLflow is away."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from api_client import free_port
from conftest import plantops, sh
from runs.cheap import CLASSES, RAW, answering, edit, get, leaves, state, url

pytestmark = pytest.mark.ci

SQLITE = "tracking_uri: sqlite:///mlruns/mlflow.db"


def another(project: Path, *changes: tuple[str, str]) -> Path:
    """A second config file, outside the project, with some text replaced."""
    file = project.parent / "other.yaml"
    shutil.copyfile(project / "config.yaml", file)
    for old, new in changes:
        edit(file, old, new)
    return file


def port(project: Path) -> int:
    return int(url(project).rpartition(":")[2])


def test_another_config_file_is_the_one_that_counts(project: Path) -> None:
    """Its port, its MLflow; from a folder inside, by a relative path."""
    taken = free_port()
    other = another(
        project, (f"\n  port: {port(project)}", f"\n  port: {taken}"), (SQLITE, "tracking_uri: http://127.0.0.1:9")
    )
    here = project / RAW
    relative = Path("../../../..") / other.name
    assert (here / relative).resolve() == other
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", taken))
        somebody.listen()
        for command in (["run"], ["run", "--dry-run"]):
            told = plantops(*command, "--config", str(relative), cwd=here, check=False)
            assert told.returncode == 2
            assert f"port {taken} is taken" in told.stderr
    plantops("run", "--dry-run", cwd=here)  # config.yaml's port is free
    told = plantops("status", "--json", "--config", str(relative), cwd=here)
    assert json.loads(told.stdout)["mlflow"] == "http://127.0.0.1:9"
    assert state(project)["mlflow"] is None


def test_another_config_file_that_is_bad_or_away_is_named(project: Path) -> None:
    other = another(project, ("min_accuracy: 0.70", "min_accuracy: 70"))
    for command in ("run", "check", "status", "releases", "rollback", "up", "down", "watch"):
        told = plantops(command, "--config", str(other), cwd=project, check=False)
        assert (told.returncode, "other.yaml: gate.min_accuracy must lie between" in told.stderr) == (2, True), command
    told = plantops("check", "--config", "none.yaml", cwd=project, check=False)
    assert told.returncode == 2
    assert f"{project / 'none.yaml'} cannot be read: No such file or directory" in told.stderr


def test_the_rules_and_the_port_of_another_config_file(project: Path) -> None:
    """A model that config.yaml's gate refuses is released by milder rules, on the other file's port."""
    edit(project / "params.yaml", "label_smoothing: 0.1", "label_smoothing: 0.95")
    assert plantops("run", cwd=project, check=False).returncode == 4
    milder = [("min_accuracy: 0.70", "min_accuracy: 0"), ("min_macro_f1: 0.65", "min_macro_f1: 0"),
              ("min_recall: 0.30", "min_recall: 0")]  # fmt: skip
    free = free_port()
    other = another(project, *milder, (f"\n  port: {port(project)}", f"\n  port: {free}"))
    assert "released: " in plantops("run", "--config", str(other), cwd=project).stdout
    assert answering(project) == ""
    serving = json.loads(plantops("status", "--json", "--config", str(other), cwd=project).stdout)
    assert serving["answering"]["url"] == f"http://127.0.0.1:{free}"
    assert get(f"http://127.0.0.1:{free}/health")["release"] == serving["in_service"]["id"]


def no_commit(project: Path) -> None:
    shutil.rmtree(project / ".git")
    sh("git", "init", "-q", cwd=project)


def raw_elsewhere(project: Path) -> None:
    edit(project / "params.yaml", f"raw: {RAW}", "raw: data/raw/Elsewhere")
    for name in CLASSES:
        leaves(project / "data/raw/Elsewhere" / name, (9, 9, 9), 1)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (no_commit, "has no commit yet"),
        (lambda p: (p / "dvc.yaml").write_text("stages: ["), "dvc.yaml is broken"),
        pytest.param(lambda p: (p / "dvc.yaml").write_text("stages:"), "it holds no stages"),
        (raw_elsewhere, "params.yaml has prepare.raw: data/raw/Elsewhere, and stage prepare_data"),
        (lambda p: edit(p / "params.yaml", "\n  epochs: ", "\n  epoch: "), "params.yaml: unknown key `train.epoch`"),
        pytest.param(
            lambda p: edit(p / "params.yaml", f"raw: {RAW}", "raw: /photos"),
            "lies outside the project: /photos",
        ),
        pytest.param(
            lambda p: edit(p / "config.yaml", "min_free_gb: 1.0", "min_free_gb: 1000000"),
            "GB free",
        ),
        pytest.param(
            lambda p: edit(p / "config.yaml", SQLITE, "tracking_uri: http://127.0.0.1:9"),
            "http://127.0.0.1:9 does not",
        ),
    ],
)
def test_a_dry_run_refuses_what_a_run_refuses(project: Path, spoil, says: str) -> None:
    spoil(project)
    dry = plantops("run", "--dry-run", cwd=project, check=False)
    wet = plantops("run", cwd=project, check=False)
    assert (dry.returncode, wet.returncode) == (2, 2)
    assert says in wet.stderr
    assert "try: " in wet.stderr
    assert dry.stderr == wet.stderr


def test_nothing_to_do_is_no_error_while_mlflow_is_away(project: Path) -> None:
    plantops("run", cwd=project)
    edit(project / "config.yaml", SQLITE, f"tracking_uri: http://127.0.0.1:{free_port()}")
    again = plantops("run", cwd=project)
    assert "no changes" in again.stdout
    assert "the aliases in MLflow will follow" in again.stdout
    assert answering(project) in again.stdout
    assert plantops("check", "--exit-code", cwd=project).returncode == 0
    edit(project / "params.yaml", "seed: 1", "seed: 2")
    assert "does not answer" in plantops("run", cwd=project, check=False).stderr
