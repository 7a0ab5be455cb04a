"""MLflow with a login, on PostgreSQL and S3, by the command and the settings of docker/server/docker-compose.yml."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

import database
import s3
from api_client import free_port
from conftest import ROOT, plantops, sh
from mlflow_at import mlflow_at
from plantops import lease, lock
from plantops.config import MlflowConfig, load
from plantops.errors import PlantopsError
from plantops.tracking import Tracker
from runs.cheap import edit
from test_tracking import METRICS, make_training, serving

pytestmark = [pytest.mark.ci, pytest.mark.timeout(900)]
FOLDER = ROOT / "docker/server"
SECRETS = {"MLFLOW_ADMIN_PASSWORD": "of the administrator", "MLFLOW_SECRET_KEY": "of the cookies"}
BOB = "the password of bob"


@dataclass(frozen=True)
class Server:
    """MLflow, and the PostgreSQL and S3 servers behind it."""

    url: str
    log: Path
    postgres: str
    s3: Any
    secrets: tuple[str, ...]


def settings(given: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """(command, environment) of the service mlflow, with what stands in .env filled in."""

    def filled(text: str) -> str:
        return re.sub(r"\$\{(\w+)(?::[-?]([^}]*))?\}", lambda one: given.get(one[1], one[2] or ""), str(text))

    mlflow = yaml.safe_load((FOLDER / "docker-compose.yml").read_text())["services"]["mlflow"]
    return [filled(one) for one in mlflow["command"]], {
        name: filled(one) for name, one in mlflow["environment"].items()
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    import psycopg

    folder = tmp_path_factory.mktemp("server")
    with database.running() as postgres, s3.guarded(folder) as (address, key, secret):
        given = {**SECRETS, "POSTGRES_PASSWORD": database.PASSWORD, "S3_ACCESS_KEY": key, "S3_SECRET_KEY": secret}
        command, env = settings(given)
        with psycopg.connect(postgres.url, autocommit=True) as db:
            db.execute("CREATE DATABASE mlflow")  # as POSTGRES_DB has the image do
            for statement in re.findall(r"^CREATE.*;", (FOLDER / "databases.sql").read_text(), re.MULTILINE):
                db.execute(statement)
        env |= {"PGHOST": "127.0.0.1", "PGPORT": str(postgres.port), "AWS_ENDPOINT_URL": address}
        env |= {"MLFLOW_AUTH_CONFIG_PATH": str(FOLDER / "auth.ini"), "MLFLOW_DISABLE_TELEMETRY": "true"}
        env |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # as in Dockerfile.mlflow
        sh("env", *(f"{name}={value}" for name, value in env.items() if name.startswith("AWS")), sys.executable,
           FOLDER / "buckets.py", "mlflow", "dvc", cwd=folder)  # fmt: skip
        argv = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(free_port()), *command]
        with serving([*argv, "--workers", "1"], folder / "log", env) as url:
            made = {"username": "bob", "password": BOB}
            answer = requests.post(
                f"{url}/api/2.0/mlflow/users/create", json=made, auth=("admin", SECRETS["MLFLOW_ADMIN_PASSWORD"])
            )
            assert answer.status_code == 200, answer.text
            secrets = (*SECRETS.values(), database.PASSWORD, secret, BOB)
            yield Server(url, folder / "log", postgres.url, s3.client("s3", address, key, secret), secrets)


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Signed in as bob, as docs/scale.md says."""
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", BOB)
    return monkeypatch


def test_a_run_its_files_and_its_model_get_there_and_come_back(
    server: Server, project: Path, tmp_path: Path, login: pytest.MonkeyPatch
) -> None:
    edit(project / "config.yaml", "tracking_uri: sqlite:///mlruns/mlflow.db", f"tracking_uri: {server.url}")
    said = plantops("run", cwd=project)
    assert "version 1" in said.stdout
    assert not (project / "mlruns").exists()
    assert "answers: http" in plantops("doctor", cwd=project, check=False).stdout
    with mlflow_at(server.url):
        import mlflow

        client = mlflow.MlflowClient()
        version = client.get_model_version_by_alias("plant-disease", "champion")
        run = client.get_run(version.run_id)
        assert 0 < run.data.metrics["accuracy"] <= 1
        assert client.get_metric_history(version.run_id, "val_loss")
        model = mlflow.onnx.load_model("models:/plant-disease@champion")
        assert model.graph.output
        (report, *_) = client.list_artifacts(version.run_id)
        client.download_artifacts(version.run_id, report.path, str(tmp_path))
    kept = [one["Key"] for one in server.s3.list_objects_v2(Bucket="mlflow")["Contents"]]
    assert any(one.endswith(".onnx") for one in kept)
    logs = "".join(path.read_text() for path in (project / ".plantops/logs").iterdir())
    assert not [one for one in server.secrets if one in logs + said.stdout + said.stderr]


def test_a_colleague_logs_to_the_same_experiment(server: Server, tmp_path: Path, login: pytest.MonkeyPatch) -> None:
    config = MlflowConfig(tracking_uri=server.url, experiment="together", model_name="together")
    versions = []
    for number, (user, password) in enumerate((("bob", BOB), ("admin", SECRETS["MLFLOW_ADMIN_PASSWORD"]))):
        login.setenv("MLFLOW_TRACKING_USERNAME", user)
        login.setenv("MLFLOW_TRACKING_PASSWORD", password)
        root = tmp_path / user
        root.mkdir()
        (root / "plots").mkdir()
        tracker = Tracker(root, config)
        run = tracker.record(make_training(root, key=str(number) * 32), None)
        versions.append(tracker.register(run, f"release-{user}"))
        assert tracker.promote(versions[-1] or 0, versions[0] if number else None)
    assert versions[1] == versions[0], "one version for one model, whoever logs it"
    assert METRICS["accuracy"]


def test_a_wrong_password_and_none_are_said_plainly(server: Server, project: Path, login: pytest.MonkeyPatch) -> None:
    edit(project / "config.yaml", "tracking_uri: sqlite:///mlruns/mlflow.db", f"tracking_uri: {server.url}")
    login.setenv("MLFLOW_TRACKING_PASSWORD", "some other password")
    failed = plantops("run", cwd=project, check=False)
    assert failed.returncode == 2
    assert f"the MLflow server {server.url} does not let us in: status 401" in failed.stderr
    assert "MLFLOW_TRACKING_PASSWORD" in failed.stderr
    assert "some other password" not in failed.stdout + failed.stderr
    login.delenv("MLFLOW_TRACKING_USERNAME")
    with pytest.raises(PlantopsError, match="does not let us in"):
        Tracker(project, MlflowConfig(tracking_uri=server.url)).ping()


def test_the_user_for_the_lease_gets_that_and_nothing_of_mlflow(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    with psycopg.connect(server.postgres, autocommit=True) as db:
        db.execute("ALTER ROLE releases PASSWORD 'of releases'")
    monkeypatch.setenv("PGPASSWORD", "of releases")
    there = server.postgres.replace(f"{database.USER}@", "releases@")
    url = there.replace("/postgres", "/plantops")
    (tmp_path / "config.yaml").write_text(f"share: {{database: '{url}'}}\n")
    config = load(tmp_path)
    with lock.hold(config.state), lease.hold(config) as held, held.fence():
        held.serves("one", "a test")
    for name, table in (("mlflow", "runs"), ("mlflow_auth", "users")):
        with (
            psycopg.connect(there.replace("/postgres", f"/{name}")) as db,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            db.execute(f"SELECT * FROM {table}")


def test_no_secret_is_in_the_servers_log_or_in_a_command(server: Server) -> None:
    told = server.log.read_text()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            told += path.read_text()
        except OSError:  # it has just ended
            continue
    assert "--app-name=basic-auth" in told
    assert not [one for one in server.secrets if one in told]


def test_every_secret_comes_from_the_environment(server: Server) -> None:
    example = (FOLDER / "env.example").read_text()
    assert re.findall(r"^(\w*(?:PASSWORD|SECRET|KEY)\w*)=$", example, re.MULTILINE)
    assert not re.findall(r"^\w*(?:PASSWORD|SECRET|KEY)\w*=.+$", example, re.MULTILINE)
    assert sh("git", "check-ignore", "docker/server/.env", cwd=ROOT).stdout
    assert os.environ["PGPASSWORD"] not in (FOLDER / "docker-compose.yml").read_text()
