"""The swarm backend on a real engine, behind a real HAProxy, under load: what is promised of the others holds of it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from api_client import get, request, until
from bundle_factory import CLASSES, TinyModel, make_release
from containers.conftest import own_config
from containers.engine import docker
from containers.registry import registry
from containers.swarms import configured, serving, swarm, tasks
from deploy.load import Load, of_tiny_models, real_photos
from plantops.behaviour import Figures
from plantops.config import ApiConfig
from plantops.deploy.swarm import Swarm
from plantops.errors import SetupError, StepFailed
from plantops.keys import hash_of, new_key

pytestmark = [pytest.mark.ci, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def one_node() -> Iterator[None]:
    with swarm():
        yield


@pytest.fixture
def stack(one_node: None, tmp_path: Path) -> Iterator[Swarm]:
    with serving(tmp_path / "project") as backend:
        yield backend


def serve(stack: Swarm, release: Path) -> None:
    """What a run does: build, start, try, switch, watch, settle."""
    stack.build(release, lambda _: None)
    trial = stack.start(release)
    stack.try_golden(trial)
    stack.switch(trial)
    stack.watch(0.5)
    assert stack.settle() == []
    now = stack.serving()
    assert now is not None
    assert now.release == stack.labelled() == trial.release
    assert stack.agrees(release)


def load_on(stack: Swarm, each: int = 1) -> Load:
    return Load(stack.public.port, of_tiny_models, real_photos(6), each=each)


def more(load: Load, before: Counter[tuple[str, str]], release: str) -> bool:
    """Whether clients of every kind were answered by that release since then."""
    return all(load.answers[kind, release] > before[kind, release] for kind in ("fresh", "busy", "idle", "slow"))


def test_rolling_updates_under_load_lose_nothing(stack: Swarm, releases: dict[str, Path]) -> None:
    stack.preflight()
    serve(stack, releases["one"])
    assert len(tasks(stack)) == 2
    with load_on(stack, each=2) as load:
        for old, new in (("one", "two"), ("two", "one"), ("one", "two")):
            before = load.answers.copy()
            until(lambda so_far=before, one=old: more(load, so_far, one) or load.failures, what="the old one's answers")
            serve(stack, releases[new])
            before = load.answers.copy()
            until(lambda so_far=before, one=new: more(load, so_far, one) or load.failures, what="the new one's answers")
    print(f"{load.total} requests, {len(load.failures)} failed")
    assert load.failures == []
    assert load.total > 500
    assert len(tasks(stack)) == 2


def test_a_task_is_as_hard_pressed_as_a_container_of_compose(stack: Swarm, releases: dict[str, Path]) -> None:
    serve(stack, releases["one"])
    for facts in json.loads(docker("inspect", *tasks(stack))):
        host = facts["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["Memory"] == 2 * 1024**3
        assert host["PortBindings"] in (None, {})
        assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}}
        assert not facts["Config"]["User"].startswith("0")
        assert {one["Target"]: one["Type"] for one in host["Mounts"]} == {"/tmp": "tmpfs", "/kept": "bind"}
    (front,) = stack._front.containers("haproxy")
    assert front.door.host == "127.0.0.1"
    assert (stack._config.state / "swarm").stat().st_mode & 0o777 == 0o700


def test_a_release_that_cannot_live_beside_the_old_one_is_taken_back_by_the_engine(
    stack: Swarm, releases: dict[str, Path]
) -> None:
    """It is tried and found good, and its replicas are never healthy."""
    stack = Swarm(configured(stack._config, start_timeout_s=20))
    serve(stack, releases["one"])
    before = tasks(stack)
    hanging = "signal.signal(15, lambda *_: os._exit(0)); os.path.exists('/kept/hang') and time.sleep(600)"
    with (stack._config.root / "docker/Dockerfile.inference").open("a") as file:
        words = ["python", "-m", "plantops.serve", "--bundle", "/bundle", "--host", "0.0.0.0"]
        start = f"import os, signal, sys, time; {hanging}; os.execvp('python', {words} + sys.argv[1:])"
        file.write(f"\nENTRYPOINT {json.dumps(['python', '-c', start])}\n")
    stack.build(releases["two"], lambda _: None)
    with load_on(stack) as load:
        trial = stack.start(releases["two"])
        stack.try_golden(trial)
        (stack._config.kept / "hang").touch()
        with pytest.raises(StepFailed, match="took the update back"):
            stack.switch(trial)
        stack.abandon(trial)
        answered = load.total
        until(lambda: load.total > answered + 50 or load.failures, 60, "answers of the old one")
    print(f"{load.total} requests, {len(load.failures)} failed")
    assert (load.failures, load.seen("fresh")) == ([], {"one"})
    until(lambda: tasks(stack) == before, 30, "the end of the new ones; the old ones were never replaced")
    assert stack.agrees(releases["one"])


def test_what_is_wrong_in_the_trial_never_reaches_the_service(
    stack: Swarm, releases: dict[str, Path], tmp_path: Path
) -> None:
    serve(stack, releases["one"])
    before = tasks(stack)
    wrong = make_release(tmp_path / "wrong", TinyModel(2), classes=(CLASSES[1], CLASSES[0], *CLASSES[2:]))
    stack.build(wrong, lambda _: None)
    with load_on(stack) as load:
        with pytest.raises(StepFailed, match=r"golden|failed"):
            stack.try_golden(stack.start(wrong))
        until(lambda: load.total > 50 or load.failures, what="answers")
    assert (load.failures, load.seen("fresh")) == ([], {"one"})
    assert tasks(stack) == before
    assert stack.agrees(releases["one"])
    assert tasks(stack) == before


def test_a_replica_that_is_killed_costs_no_request_and_comes_again(stack: Swarm, releases: dict[str, Path]) -> None:
    serve(stack, releases["one"])
    with load_on(stack) as load:
        until(lambda: load.total > 20 or load.failures, what="answers")
        first, _ = tasks(stack)
        docker("kill", first)
        until(lambda: stack.agrees(releases["one"]) or load.failures, 60, "another replica")
        before = load.total
        until(lambda: load.total > before + 50 or load.failures, 30, "answers")
    assert load.failures == []
    assert first not in tasks(stack)


def test_a_release_whose_replica_dies_under_watch_goes_back(stack: Swarm, releases: dict[str, Path]) -> None:
    serve(stack, releases["one"])
    stack.build(releases["two"], lambda _: None)
    with load_on(stack) as load:
        trial = stack.start(releases["two"])
        stack.switch(trial)
        until(lambda: "two" in load.seen("busy") or load.failures, what="the new release's answers")
        docker("kill", tasks(stack)[0])
        with pytest.raises(StepFailed):
            stack.watch(20)
        stack.back()
        before = load.total
        until(lambda: load.total > before + 50 or load.failures, what="answers of the old one")
    assert load.failures == []
    stack.up(releases["one"])
    assert stack.agrees(releases["one"])


def test_going_back_takes_moments(stack: Swarm, releases: dict[str, Path]) -> None:
    for release in releases.values():
        serve(stack, release)
    began = time.monotonic()
    trial = stack.start(releases["one"])
    stack.try_golden(trial)
    stack.switch(trial)
    took = time.monotonic() - began
    stack.settle()
    print(f"back in {took:.2f} s, settled in {time.monotonic() - began:.2f} s")
    assert stack.agrees(releases["one"])
    assert took < 30  # on two busy cores; by the clock it is mostly the API's own start, twice


def test_a_switch_cut_short_is_put_right(stack: Swarm, releases: dict[str, Path]) -> None:
    serve(stack, releases["one"])
    stack.build(releases["two"], lambda _: None)
    lost = Swarm(stack._config)
    lost.start(releases["two"])  # and then its caller died
    assert not stack.agrees(releases["one"])
    stack.up(releases["one"])
    assert stack.agrees(releases["one"])
    lost = Swarm(stack._config)
    lost.switch(lost.start(releases["two"]))
    assert not stack.agrees(releases["one"])
    stack.up(releases["one"])
    assert stack.agrees(releases["one"])
    (front,) = stack._front.containers("haproxy")
    docker("rm", "-f", front.id)
    stack.up(releases["one"])
    assert stack.agrees(releases["one"])


def test_replicas_come_and_go_as_config_says(stack: Swarm, releases: dict[str, Path]) -> None:
    serve(stack, releases["one"])
    before = set(tasks(stack))
    with load_on(stack) as load:
        for count in (3, 1):
            scaled = Swarm(configured(stack._config, replicas=count))
            assert not scaled.agrees(releases["one"])
            scaled.up(releases["one"])
            assert scaled.agrees(releases["one"])
            until(lambda one=scaled, so_many=count: len(tasks(one)) == so_many, 30, "as many containers")
    assert load.failures == []
    assert before & set(tasks(stack))


def test_a_registry_that_is_named_later_is_where_more_replicas_come_from(
    stack: Swarm, releases: dict[str, Path], tmp_path: Path
) -> None:
    """The id of an image says nothing to a node that joined since."""
    serve(stack, releases["one"])
    with registry(tmp_path / "registry") as host:
        config = configured(stack._config, replicas=3)
        named = Swarm(replace(config, docker=replace(config.docker, registry=f"{host}/team")))
        named.up(releases["one"])
        assert named.agrees(releases["one"])
        now = named._service.look()
        assert now is not None
        assert now.wanted.image.startswith(f"{host}/team/{config.docker.image}@sha256:")


def test_a_service_of_another_project_is_left_alone(stack: Swarm, releases: dict[str, Path], tmp_path: Path) -> None:
    serve(stack, releases["one"])
    before = tasks(stack)
    config = own_config(tmp_path / "other")
    other = Swarm(replace(configured(config), project=stack._config.project))
    now = stack._service.look()
    assert now is not None
    with pytest.raises(SetupError, match=rf"runs from {stack._config.root}"):
        other._deploy(now.wanted)
    assert other.serving() is None
    assert tasks(stack) == before


def test_what_all_replicas_counted_is_told(stack: Swarm, releases: dict[str, Path]) -> None:
    serve(stack, releases["one"])
    with load_on(stack) as load:
        until(lambda: load.total > 40 or load.failures, what="answers")
    figures = Figures.of(stack.metrics())
    assert figures.release == "one"
    assert figures.photos == load.total
    assert sum(figures.classes.values()) == load.total


def test_keys_are_asked_for_by_every_replica_and_none_stands_in_a_list(stack: Swarm, releases: dict[str, Path]) -> None:
    key = new_key()
    keyed = Swarm(replace(stack._config, api=ApiConfig(keys=(hash_of(key),))))
    serve(keyed, releases["one"])
    assert {get(keyed.public.port, "/model/info").status for _ in range(6)} == {401}
    assert request(keyed.public.port, "GET", "/model/info", headers={"Authorization": f"Bearer {key}"}).status == 200
    assert key not in docker("service", "inspect", keyed._stack.service) + docker("inspect", *tasks(keyed))


def test_down_leaves_nothing(stack: Swarm, releases: dict[str, Path]) -> None:
    assert stack.down() == []
    serve(stack, releases["one"])
    assert stack.down() == [f"plant-disease-api ({stack.url})", "haproxy"]
    assert stack.serving() is None
    own = ("--filter", f"name={stack._stack.name}")
    assert docker("ps", "-aq", *own) == docker("network", "ls", "-q", *own) == docker("service", "ls", "-q", *own) == ""
    stack.preflight()


def test_the_log_is_that_of_all_replicas(stack: Swarm, releases: dict[str, Path]) -> None:
    serve(stack, releases["one"])
    for number in range(6):
        request(stack.public.port, "GET", "/model/info", headers={"X-Request-ID": f"walk-{number}"})
    argv = stack.logs_argv("plant-disease-api", follow=False)
    until(lambda: all(f"walk-{number}" in docker(*argv[1:]) for number in range(6)), 30, "the lines")
    with pytest.raises(SetupError, match="the stack has no service grafana"):
        stack.logs_argv("grafana", follow=False)


def test_files_of_an_older_plantops_are_told(stack: Swarm) -> None:
    old = stack._config.root / "docker/haproxy/haproxy.cfg"
    old.write_text(old.read_text().replace("each.sock", "other.sock"))
    with pytest.raises(SetupError, match="of an older plantops"):
        stack.preflight()
    (stack._config.root / "docker/swarm.yml").unlink()
    with pytest.raises(SetupError, match=r"swarm\.yml is missing"):
        stack.preflight()
