"""Prometheus on the API's own container under a little traffic, and on what watch writes: every query returns data."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

import pytest

from api_client import free_port, get, predict, until
from bundle_factory import CLASSES, make_release, photo
from conftest import ROOT
from containers.engine import Project, docker, need_engine, need_image
from containers.panels import DASHBOARDS, Query, queries, read
from plantops.config import Config, DockerConfig, GrafanaConfig, PrometheusConfig, ServeConfig
from plantops.deploy import image
from plantops.deploy.compose import engine
from plantops.deploy.compose.stack import API
from plantops.store import FAILED, REFUSED, RELEASED, Release, Store, now
from plantops.watch import heartbeat, metrics
from serve.looking import PLAIN, LookingModel, looking_release, usual

pytestmark = [pytest.mark.ci, pytest.mark.timeout(900)]

JOB = "plant-disease-api"
RELEASE, ACCURACY = "r1", 0.875
QUERIES = [query for path in DASHBOARDS for query in queries(read(path))]
# Long enough for two rounds of DNS and scrapes, and the four scrapes that a rate looks at.
PATIENCE = 60


@dataclass(frozen=True)
class Prometheus:
    """The stack's Prometheus, and the stack."""

    project: Project
    port: int

    def ask(self, path: str, **query: str) -> Any:
        """The data of an answer of its HTTP API."""
        answer = get(self.port, f"/api/v1/{path}?{urlencode(query)}")
        assert answer.status == 200, answer.body
        return answer.json["data"]

    def series(self, expr: str) -> list[dict[str, Any]]:
        """Labels and value of every series that an expression gives now; without those that are no number."""
        return [one for one in self.ask("query", query=expr)["result"] if one["value"][1] != "NaN"]

    def value(self, expr: str) -> float:
        """The one value of an expression; 0 when there is none."""
        return sum(float(one["value"][1]) for one in self.series(expr))

    def ever(self, expr: str) -> bool:
        """Whether an expression gave anything in the last ten minutes."""
        now = time.time()
        span = {"start": f"{now - 600:.3f}", "end": f"{now:.3f}", "step": "5"}
        return bool(self.ask("query_range", query=expr, **span)["result"])

    def targets(self) -> list[str]:
        """Addresses of the API's containers that answer it."""
        active = self.ask("targets", state="active")["activeTargets"]
        return [one["scrapeUrl"] for one in active if one["labels"]["job"] == JOB and one["health"] == "up"]

    def complaints(self, query: Query) -> list[str]:
        """Labels that the query names, though its series or its answer have none of this name."""
        known = {name for metric in query.metrics for name in self.ask("labels", **{"match[]": metric})}
        answered = {name for one in self.series(query.expr) for name in one["metric"]}
        return sorted((query.named_labels - known) | (set(query.labels) - answered))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Config]:
    """Settings of a stack that can do one photo at a time; with the image of its release."""
    need_engine()
    need_image(_image())
    made = Config(
        ROOT, ROOT / "config.yaml", serve=ServeConfig(threads=1, max_waiting=0),
        docker=DockerConfig(image=f"plantops-test-{uuid.uuid4().hex[:8]}", mlflow=False),
        prometheus=PrometheusConfig(port=free_port()), grafana=GrafanaConfig(enabled=False),
    )  # fmt: skip
    centre, limits = LookingModel().seen(PLAIN[0])[0], {"unsure": 0.5, "unlike": 1.0}
    place = tmp_path_factory.mktemp("monitoring") / RELEASE
    release = looking_release(place, centre, more=usual().arrays(), thresholds=limits)
    client = engine.client()
    image.build(client, made, release, print)
    yield made
    image.remove(client, image.tag(made, RELEASE))


@pytest.fixture(scope="module")
def watched(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A project of which watch tells a release, a failed run, and a refused one."""
    root = tmp_path_factory.mktemp("watched")
    made = replace(config, root=root, file=root / "config.yaml")
    release = make_release(made.models / "releases" / RELEASE)
    manifest = json.loads((release / "manifest.json").read_text())
    (release / "manifest.json").write_text(json.dumps({**manifest, "metrics": {"accuracy": ACCURACY}}))
    with Store(made.state) as state:
        for step, ending in (("reproduce", FAILED), ("gate", REFUSED), ("promote", RELEASED)):
            run = state.begin("watch", {}, "f", {})
            state.step_ends(run, state.step_begins(run, "gate"), "done", "") if ending == RELEASED else None
            state.step_begins(run, step)
            state.finish(run, ending)
        state.add_release(Release(RELEASE, now(), run, "digest", False, None, 1, None))
        state.put_in_service(RELEASE, "code", f"run {run}")
        metrics.write(made.state, heartbeat.first(30), metrics.Facts.of(state, made))
    return made


@pytest.fixture(scope="module")
def prometheus(config: Config, watched: Config) -> Iterator[Prometheus]:
    """Up, with an API that answers photos, nonsense, and more than it can do."""
    project = Project(config, PLANTOPS_IMAGE=image.tag(config, RELEASE), PLANTOPS_ROOT=str(watched.root))
    stop = threading.Event()
    try:
        project.compose("up", "-d", API, "prometheus")
        door = int(project.compose("port", API, "8000").rpartition(":")[2])
        until(lambda: _healthy(door), what="healthy")
        clients = [threading.Thread(target=_visit, args=(door, number, stop)) for number in range(4)]
        for client in clients:
            client.start()
        made = Prometheus(project, config.prometheus.port)
        until(lambda: _ready(made.port), what="Prometheus")
        until(made.targets, PATIENCE, "a scrape of the API")
        yield made
    finally:
        stop.set()
        project.remove()


def test_promtool_accepts_the_file() -> None:
    need_engine()
    need_image(_image())
    folder = f"{ROOT / 'docker/prometheus'}:/etc/prometheus:ro"
    said = docker(
        "run", "--rm", "--pull", "never", "--network", "none", "--volume", folder, "--entrypoint", "promtool",
        _image(), "check", "config", "/etc/prometheus/prometheus.yml",
    )  # fmt: skip
    assert "SUCCESS" in said


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.title)
def test_every_query_returns_data(prometheus: Prometheus, query: Query) -> None:
    for selector in query.selectors:
        until(lambda one=selector: prometheus.series(one), PATIENCE, selector)
    if query.passes:
        until(lambda: prometheus.ever(query.expr), PATIENCE, query.expr)
        return
    until(lambda: prometheus.series(query.expr), PATIENCE, query.expr)
    assert prometheus.complaints(query) == []


@pytest.mark.parametrize(
    ("wrong", "label"),
    [
        (Query("", 'sum by (code) (rate(api_requests_total{job="plant-disease-api"}[20s]))', ()), "code"),
        (Query("", 'sum(rate(api_requests_total{job="plant-disease-api",path!="/"}[20s]))', ()), "path"),
        (Query("", 'sum by (status) (rate(api_requests_total{job="plant-disease-api"}[20s]))', ("method",)), "method"),
    ],
)
def test_a_label_that_is_not_there_would_be_found(prometheus: Prometheus, wrong: Query, label: str) -> None:
    until(lambda: prometheus.series(wrong.expr), PATIENCE, wrong.expr)
    assert prometheus.complaints(wrong) == [label]


def test_the_numbers_are_those_of_the_traffic(prometheus: Prometheus) -> None:
    """Errors are seen as errors, photos as predictions, and the release by its name."""
    by_title = {query.title: query.expr for query in QUERIES}
    until(lambda: 0 < prometheus.value(by_title["Error share A"]) < 1, PATIENCE, "a share of 5xx")
    until(lambda: 0 < prometheus.value(by_title["Error share B"]) < 1, PATIENCE, "a share of 4xx")
    statuses = {one["metric"]["status"] for one in prometheus.series(by_title["Requests/s by status A"])}
    assert {"200", "404", "503"} < statuses
    (release,) = prometheus.series(by_title["Release in service A"])
    assert release["metric"]["release"] == RELEASE
    assert release["metric"]["classes"] == str(len(CLASSES))
    assert prometheus.value(by_title["Containers up A"]) == 1
    shown = {one["metric"]["class_name"] for one in prometheus.series(by_title["Predictions by class in this time A"])}
    assert shown <= set(CLASSES)
    p50, p99 = (prometheus.value(by_title[f"Inference latency {one}"]) for one in "AC")
    assert 0 < p50 <= p99 < 5


def test_what_watch_writes_is_scraped_and_nothing_beside_it(prometheus: Prometheus, watched: Config) -> None:
    assert prometheus.value('plantops_release_score{job="plantops",score="accuracy"}') == ACCURACY
    verdicts = prometheus.series('plantops_gate_verdicts_total{job="plantops"}')
    assert {one["metric"]["verdict"]: float(one["value"][1]) for one in verdicts} == {"accepted": 1, "refused": 1}
    assert get(prometheus.port, "/user/plantops.prom").status == 200
    for hidden in ("state.db", "../state.db", "%2e%2e/state.db"):
        assert get(prometheus.port, f"/user/{hidden}").status in (301, 400, 404)
    with Store(watched.state) as state:
        state.finish(state.begin("watch", {}, "f", {}), FAILED)
        metrics.write(watched.state, heartbeat.first(30), metrics.Facts.of(state, watched))
    newer = 'plantops_failed_runs_in_a_row{job="plantops"}'
    until(lambda: prometheus.value(newer) == 1, PATIENCE, "the file that was exchanged")


def test_the_rules_are_at_work(prometheus: Prometheus) -> None:
    groups = prometheus.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 10
    until(lambda: prometheus.series("api:requests:rate5m"), PATIENCE, "a recorded series")
    assert [rule["name"] for rule in rules if rule.get("lastError")] == []


def test_a_second_container_is_found_and_forgotten(prometheus: Prometheus) -> None:
    """As during a switch."""
    (up,) = (query.expr for query in QUERIES if query.title.startswith("Containers up"))
    for count in (2, 1):
        prometheus.project.compose("up", "-d", "--no-recreate", "--no-deps", "--scale", f"{API}={count}", API)
        until(lambda wanted=count: len(prometheus.targets()) == wanted, PATIENCE, f"{count} targets")
        until(lambda wanted=count: prometheus.value(up) == wanted, PATIENCE, f"{count} up")


def test_it_is_healthy_and_keeps_its_numbers(prometheus: Prometheus) -> None:
    state = prometheus.project.container("prometheus")
    assert state["HostConfig"]["ReadonlyRootfs"]
    assert state["HostConfig"]["PortBindings"]["9090/tcp"][0]["HostIp"] == "127.0.0.1"
    until(lambda: _health(prometheus.project) == "healthy", 45, "healthy")
    seen = prometheus.value(f'sum(inference_latency_seconds_count{{job="{JOB}"}})')
    assert seen > 0
    prometheus.project.compose("rm", "--stop", "--force", "prometheus")
    prometheus.project.compose("up", "-d", "--no-deps", "prometheus")
    until(lambda: _ready(prometheus.port), 30, "Prometheus again")
    assert prometheus.value(f'sum(max_over_time(inference_latency_seconds_count{{job="{JOB}"}}[10m]))') >= seen


def _visit(door: int, number: int, stop: threading.Event) -> None:
    """One client: photos by turns with what is no photo, and a page that is not there."""
    pictures = [photo(10 * number + one) for one in range(5)]
    while not stop.wait(0.02):
        for data in [*pictures, b"no photo"]:
            if stop.is_set():
                return
            _quietly(lambda sent=data: predict(door, sent))
        _quietly(lambda: get(door, "/nowhere"))


def _quietly(call: Any) -> None:
    try:
        call()
    except OSError:
        return  # the stack is going down


def _healthy(door: int) -> bool:
    try:
        return get(door, "/health").status == 200
    except OSError:
        return False


def _ready(port: int) -> bool:
    try:
        return get(port, "/-/ready").status == 200
    except OSError:
        return False


def _health(project: Project) -> str:
    return str(project.container("prometheus")["State"]["Health"]["Status"])


def _image() -> str:
    """The image of Prometheus that the stack names."""
    config = Config(ROOT, ROOT / "config.yaml")
    return Project(config).compose("config", "--images", "prometheus")
