"""MLflow's container on the host's database: what one of them writes, the other one shows."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from api_client import free_port, get, request, until
from containers.engine import Project, docker, need_engine, owner
from plantops.config import Config, DockerConfig, GrafanaConfig, MlflowConfig, PrometheusConfig
from plantops.tracking import Tracker
from test_tracking import METRICS, client_of, make_training

pytestmark = [pytest.mark.ci, pytest.mark.timeout(900)]

SOMEBODY = 12345
JSON = {"Content-Type": "application/json"}


@dataclasses.dataclass(frozen=True)
class Pages:
    """MLflow's service, and the host's tracker of the same project."""

    project: Project
    tracker: Tracker
    port: int
    uid: int

    def up(self) -> None:
        """As plantops starts it, the image built where it is missing."""
        self.project.compose("up", "-d", "--no-deps", "mlflow", seconds=800)
        until(self._answers, 60, "MLflow's answer")

    def call(self, verb: str, **body: Any) -> dict[str, Any]:
        """POST to MLflow's REST API."""
        answer = request(self.port, "POST", f"/api/2.0/mlflow/{verb}", json.dumps(body).encode(), JSON)
        assert answer.status == 200, answer.body
        return dict(answer.json)

    def runs(self) -> dict[str, dict[str, Any]]:
        """The project's runs by id, as the pages list them."""
        named = get(self.port, "/api/2.0/mlflow/experiments/get-by-name?" + urlencode({"experiment_name": EXPERIMENT}))
        found = self.call("runs/search", experiment_ids=[named.json["experiment"]["experiment_id"]])
        return {run["info"]["run_id"]: run for run in found["runs"]}

    def artifact(self, run: str, path: str) -> bytes:
        """An artifact, as the browser downloads it."""
        answer = get(self.port, "/get-artifact?" + urlencode({"run_uuid": run, "path": path}))
        assert answer.status == 200, answer.body
        return answer.body

    def _answers(self) -> bool:
        try:
            return get(self.port, "/health").status == 200
        except OSError:
            return False


EXPERIMENT = MlflowConfig().experiment


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A project's folder with a training in MLflow, and its run."""
    root = tmp_path_factory.mktemp("mlflow") / "a project's folder"
    root.mkdir()
    run = Tracker(root, MlflowConfig()).record(make_training(root), None)
    assert run
    return root, run


@pytest.fixture(scope="module")
def pages(logged: tuple[Path, str]) -> Iterator[Pages]:
    need_engine()
    root, _ = logged
    port = free_port()
    config = Config(
        root, root / "config.yaml", mlflow=MlflowConfig(ui_port=port), docker=DockerConfig(mlflow=True),
        prometheus=PrometheusConfig(enabled=False), grafana=GrafanaConfig(enabled=False),
    )  # fmt: skip
    # Where the tests run as root, the project belongs to somebody else: root would be no proof of anything.
    uid = os.getuid() or SOMEBODY
    if os.getuid() == 0:
        for path in [root / "mlruns", *(root / "mlruns").rglob("*")]:
            os.chown(path, uid, uid)
    project = Project(config, PLANTOPS_UID=str(uid), PLANTOPS_GID=str(uid if os.getuid() == 0 else os.getgid()))
    image = project.compose("config", "--images", "mlflow")
    known = docker("image", "ls", "-q", image)
    made = Pages(project, Tracker(root, config.mlflow), port, uid)
    try:
        made.up()
        yield made
    finally:
        project.remove()
        if not known:
            docker("image", "rm", image, check=False)


def test_what_the_host_logged_opens(pages: Pages, logged: tuple[Path, str]) -> None:
    root, run = logged
    shown = pages.runs()[run]
    metrics = {one["key"]: one["value"] for one in shown["data"]["metrics"]}
    assert metrics["accuracy"] == METRICS["accuracy"]
    assert shown["info"]["status"] == "FINISHED"
    listed = get(pages.port, "/api/2.0/mlflow/artifacts/list?" + urlencode({"run_id": run})).json["files"]
    assert len(listed) >= 2
    assert pages.artifact(run, _find(pages, run, "confusion.png")) == (root / "plots/confusion.png").read_bytes()


def test_the_pages_themselves_come(pages: Pages) -> None:
    page = get(pages.port, "/")
    assert page.status == 200
    (script,) = re.findall(r'<script[^>]*src="([^"]*main[^"]*\.js)"', page.body.decode())
    code = get(pages.port, "/" + script.lstrip("./"))
    assert code.status == 200
    assert "javascript" in code.headers["content-type"]


def test_both_write_while_both_run_and_it_stays(pages: Pages, logged: tuple[Path, str]) -> None:
    """Host and container write by turns; `down` and `up` lose nothing."""
    _, first = logged
    second = pages.tracker.begin("run-2", {"seed": 2}, {})
    client = client_of(pages.tracker)
    client.log_metric(second, "val_loss", 0.125, step=3)
    client.log_text(second, "more", "notes/more.txt")
    _check(pages, second)

    pages.call("runs/set-tag", run_id=second, key="seen", value="in the browser")
    query = urlencode({"run_uuid": first, "path": "from/the-container.txt"})
    assert request(pages.port, "POST", f"/ajax-api/2.0/mlflow/upload-artifact?{query}", b"hello").status == 200
    assert client.get_run(second).data.tags["seen"] == "in the browser"
    made = pages.tracker.artifacts / first / "artifacts/from/the-container.txt"
    assert made.read_bytes() == b"hello"
    assert {owner(path) for path in (made, made.parent, pages.tracker.root / "mlruns/mlflow.db")} == {pages.uid}

    pages.project.compose("down")
    client.log_metric(second, "val_loss", 0.0625, step=4)
    pages.up()
    assert set(pages.runs()) >= {first, second}
    assert pages.artifact(first, "from/the-container.txt") == b"hello"
    assert pages.runs()[second]["data"]["metrics"][0]["value"] == 0.0625
    assert pages.artifact(second, "notes/more.txt") == b"more"


def test_it_has_no_more_rights_than_it_needs(pages: Pages) -> None:
    facts = pages.project.container("mlflow")
    assert facts["Config"]["User"].split(":")[0] == str(pages.uid)
    assert facts["HostConfig"]["ReadonlyRootfs"]
    assert facts["HostConfig"]["CapDrop"] == ["ALL"]
    assert facts["HostConfig"]["PortBindings"]["5000/tcp"][0]["HostIp"] == "127.0.0.1"


def test_its_health_check_passes(pages: Pages) -> None:
    until(lambda: pages.project.container("mlflow")["State"]["Health"]["Status"] == "healthy", 40, "healthy")


def _check(pages: Pages, run: str) -> None:
    shown = pages.runs()[run]
    assert {"key": "seed", "value": "2"} in shown["data"]["params"]
    assert shown["data"]["metrics"][0]["value"] == 0.125
    assert pages.artifact(run, "notes/more.txt") == b"more"


def _find(pages: Pages, run: str, name: str) -> str:
    """The path of the artifact of that name."""
    folders = [""]
    while folders:
        query = urlencode({"run_id": run, "path": folders.pop()})
        for one in get(pages.port, f"/api/2.0/mlflow/artifacts/list?{query}").json.get("files", []):
            if one.get("is_dir"):
                folders.append(one["path"])
            elif Path(one["path"]).name == name:
                return str(one["path"])
    raise AssertionError(f"no artifact {name}")
