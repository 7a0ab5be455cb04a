"""Without containers: the real Prometheus on the PATH scrapes the real API, by the stack's own jobs and rules."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from api_client import get, predict, refused, until
from conftest import plantops
from plantops.config import Config, load
from plantops.prometheus import ABSENT
from plantops.steps import serving
from runs import cheap
from runs.test_drifting import RELEASE, in_service
from runs.test_watch import quick, quiet
from serve.looking import PLAIN, looking_release

pytestmark = [pytest.mark.ci, pytest.mark.timeout(200)]
IMAGE = "prom/prometheus:v2.53.2"
__all__ = ["quick", "quiet"]  # fixtures


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the machine's Prometheus, or else the one out of the stack's image."""
    folder = tmp_path_factory.mktemp("prometheus")
    if there := shutil.which("prometheus"):
        (folder / "prometheus").symlink_to(there)
        return folder
    made = subprocess.run(["docker", "create", "--pull", "never", IMAGE], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip("there is no prometheus on this machine")
    for place in ("/bin/prometheus", "/usr/bin/prometheus"):
        subprocess.run(
            ["docker", "cp", "-L", f"{made.stdout.strip()}:{place}", folder], capture_output=True, check=False
        )
    subprocess.run(["docker", "rm", made.stdout.strip()], capture_output=True, check=True)
    assert (folder / "prometheus").is_file()
    return folder


@pytest.fixture
def served(quiet: Path) -> Config:
    """A project with a release in service; nothing runs yet."""
    looking_release(quiet / "models/releases" / RELEASE)
    config = load(quiet)
    in_service(config, RELEASE, serving(config))
    return config


def ask(config: Config, expr: str) -> list[Any]:
    """The series of an expression."""
    answer = get(config.prometheus.port, f"/api/v1/query?query={quote(expr)}")
    return list(answer.json["data"]["result"]) if answer.status == 200 else []


def test_it_scrapes_the_api_and_goes_with_down(served: Config, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, url = served.root, f"http://127.0.0.1:{served.prometheus.port}"
    monkeypatch.setenv("PATH", f"{program}{os.pathsep}{os.environ['PATH']}")
    assert f"Prometheus  {url}" in plantops("up", cwd=root).stdout
    plantops("watch", "--once", cwd=root, check=False)
    predict(served.deploy.port, PLAIN[0])
    until(lambda: ask(served, 'model_info{job="plant-disease-api"}'), 40, "a scrape of the API")
    until(lambda: ask(served, 'plantops_watch_interval_seconds{job="plantops"}'), 40, "a scrape of watch's metrics")
    rules = get(served.prometheus.port, "/api/v1/rules").json["data"]["groups"]
    assert {"Drift", "ApiDown"} <= {rule["name"] for group in rules for rule in group["rules"]}
    flags = get(served.prometheus.port, "/api/v1/status/flags").json["data"]
    assert flags["storage.tsdb.path"] == str(root / ".plantops/prometheus/data")
    assert flags["storage.tsdb.retention.size"] == "1GiB"
    assert cheap.state(root)["prometheus"] == url
    assert "prometheus" in plantops("logs", "prometheus", cwd=root).stdout

    notes = root / ".plantops/prometheus.json"
    before = notes.read_text()
    plantops("up", cwd=root)
    assert notes.read_text() == before, "it was started anew for nothing"
    rules_file = root / "docker/prometheus/prometheus.yml"
    rules_file.write_text(rules_file.read_text().replace("scrape_interval: 5s", "scrape_interval: 4s"))
    plantops("up", cwd=root)
    assert notes.read_text() != before, "it goes on by what is no longer said"
    before, alerts = notes.read_text(), root / "docker/prometheus/rules.yml"
    alerts.write_text(alerts.read_text().replace("30 * 86400", "31 * 86400"))
    plantops("up", cwd=root)
    assert notes.read_text() != before, "it goes on by rules that are no longer there"
    assert f"stopped Prometheus on {url}" in plantops("down", cwd=root).stdout
    assert refused(served.prometheus.port)
    assert cheap.state(root)["prometheus"] is None


def test_without_one_it_is_said_and_nothing_fails(served: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    own = [one for one in os.environ["PATH"].split(os.pathsep) if not Path(one, "prometheus").exists()]
    monkeypatch.setenv("PATH", os.pathsep.join(own))
    said = plantops("up", cwd=served.root).stdout
    assert said.count(ABSENT) == 1
    assert ABSENT in plantops("doctor", cwd=served.root, check=False).stdout
    cheap.edit(
        served.root / "config.yaml", "  enabled: true                # on the PATH", "  enabled: false  # on the PATH"
    )
    assert ABSENT not in plantops("up", cwd=served.root).stdout
    assert ABSENT not in plantops("doctor", cwd=served.root, check=False).stdout


def test_what_it_cannot_read_is_said_and_nothing_fails(
    served: Config, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{program}{os.pathsep}{os.environ['PATH']}")
    (served.root / "docker/prometheus/prometheus.yml").write_text("scrape_configs: [")
    done = plantops("up", cwd=served.root)
    assert "cannot be used" in done.stdout
    assert cheap.answering(served.root) == RELEASE
