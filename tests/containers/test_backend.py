"""The compose backend on a real engine, behind a real HAProxy, under load: nothing is lost, nothing left over."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from api_client import until
from bundle_factory import CLASSES, TinyModel, make_release
from conftest import sh
from containers.engine import docker
from containers.swarms import swarm
from containers.test_compose_file import FIRST_FLAGS
from deploy.load import Load, of_tiny_models, real_photos
from plantops.config import ApiConfig
from plantops.deploy import image
from plantops.deploy.compose import Compose
from plantops.errors import StepFailed
from plantops.keys import hash_of, new_key

pytestmark = [pytest.mark.ci, pytest.mark.timeout(600)]


def serve(stack: Compose, release: Path) -> None:
    """What a run does: build, start, try, switch, settle."""
    stack.build(release, lambda _: None)
    trial = stack.start(release)
    stack.try_golden(trial)
    stack.switch(trial)
    assert stack.settle() == []
    now = stack.serving()
    assert now is not None
    assert (now.release, now.since) == (trial.release, trial.since)
    assert stack.labelled() == trial.release


def containers(stack: Compose) -> list[str]:
    """The states of the API's containers, stopped ones included."""
    name = stack._config.project
    label = f"label=com.docker.compose.project={name}"
    service = "label=com.docker.compose.service=plant-disease-api"
    return docker("ps", "-a", "--filter", label, "--filter", service, "--format", "{{.State}}").split()


def load_on(stack: Compose, each: int = 1) -> Load:
    return Load(stack.public.port, of_tiny_models, real_photos(6), each=each)


def more(load: Load, before: Counter[tuple[str, str]], release: str) -> bool:
    """Whether clients of every kind were answered by that release since then."""
    return all(load.answers[kind, release] > before[kind, release] for kind in ("fresh", "busy", "idle", "slow"))


def test_twenty_switches_under_load_lose_nothing(stack: Compose, releases: dict[str, Path]) -> None:
    serve(stack, releases["one"])
    stack.build(releases["two"], lambda _: None)
    with load_on(stack, each=2) as load:
        for number in range(20):
            old, new = ("one", "two") if number % 2 == 0 else ("two", "one")
            before = load.answers.copy()
            until(lambda so_far=before, one=old: more(load, so_far, one) or load.failures, what="the old one's answers")
            serve(stack, releases[new])
            until(lambda so_far=before, one=new: more(load, so_far, one) or load.failures, what="the new one's answers")
        until(lambda: load.total >= 10_000 or load.failures, 120, "ten thousand answers")
    assert load.failures == []
    assert load.total >= 10_000
    assert containers(stack) == ["running"]
    assert stack.agrees(releases["one"])


def test_containers_of_another_project_with_the_same_name_are_not_ours(stack: Compose, tmp_path: Path) -> None:
    file = tmp_path / "compose.yml"
    sleeping = {"image": "haproxy:2.8.10", "entrypoint": ["sleep", "60"], "command": [], "init": True}
    file.write_text(json.dumps({"services": {"haproxy": sleeping, "plant-disease-api": sleeping}}))
    compose = ("docker", "compose", "-p", stack._config.project, "-f", file)
    sh(*compose, "up", "-d", cwd=tmp_path)
    try:
        assert stack.serving() is None
        assert stack.down() == []
        assert containers(stack) == ["running"]
    finally:
        sh(*compose, "down", "-t", "1", cwd=tmp_path)


def test_what_never_gets_healthy_is_told_with_its_last_words(stack: Compose, releases: dict[str, Path]) -> None:
    serve(stack, releases["one"])
    dying = "import sys; sys.exit('no memory for dreams')"
    with (stack._config.root / "docker/Dockerfile.inference").open("a") as file:
        file.write(f'\nENTRYPOINT ["python", "-c", "{dying}"]\n')
    stack.build(releases["two"], lambda _: None)
    with load_on(stack) as load:
        with pytest.raises(StepFailed, match="no memory for dreams"):
            stack.start(releases["two"])
        until(lambda: load.total > 50 or load.failures, what="answers")
    assert (load.failures, load.seen("fresh")) == ([], {"one"})
    assert containers(stack) == ["running"]


def make_older(name: str, place: Path) -> None:
    """Give that image the command of the first version: flags of its own alone, no other is understood."""
    (place / "older.py").write_text(
        "import os, sys\n"
        f"known = {sorted(FIRST_FLAGS | {'bundle', 'host'})}\n"
        "given = [one[2:].partition('=')[0].replace('-', '_') for one in sys.argv[1:] if one.startswith('--')]\n"
        "if not set(given) <= set(known): sys.exit(f'unrecognized arguments: {given}')\n"
        "env = {key: value for key, value in os.environ.items() if not key.startswith('PLANTOPS_SERVE_')}\n"
        "os.execvpe('python', ['python', '-m', 'plantops.serve', *sys.argv[1:]], env)\n"
    )
    lines = (
        f"FROM {name}", "COPY older.py /opt/older.py", 'LABEL org.plantops.keys=""',
        'ENTRYPOINT ["python", "/opt/older.py", "--bundle", "/bundle", "--host", "0.0.0.0"]',
    )  # fmt: skip
    (place / "Dockerfile").write_text("\n".join(lines))
    docker("build", "-t", name, str(place), seconds=120)


def test_an_image_of_an_older_version_serves_again_but_never_without_the_keys(
    stack: Compose, releases: dict[str, Path], tmp_path: Path
) -> None:
    stack.build(releases["one"], lambda _: None)
    (older := tmp_path / "older").mkdir()
    make_older(image.tag(stack._config, "one"), older)
    serve(stack, releases["two"])
    back = Compose(replace(stack._config, api=ApiConfig(title="Beans")))
    trial = back.start(releases["one"])
    back.try_golden(trial)
    back.switch(trial)
    assert back.settle() == []
    assert back.labelled() == "one"
    keyed = Compose(replace(stack._config, api=ApiConfig(keys=(hash_of(new_key()),))))
    with pytest.raises(StepFailed, match="older version: it would answer without a key"):
        keyed.start(releases["one"])
    assert containers(stack) == ["running"]


def test_permuted_classes_are_refused_before_any_traffic(
    stack: Compose, releases: dict[str, Path], tmp_path: Path
) -> None:
    serve(stack, releases["one"])
    wrong = make_release(tmp_path / "wrong", TinyModel(2), classes=(CLASSES[1], CLASSES[0], *CLASSES[2:]))
    stack.build(wrong, lambda _: None)
    with load_on(stack) as load:
        with pytest.raises(StepFailed, match=r"golden|failed"):
            stack.try_golden(stack.start(wrong))
        until(lambda: load.total > 50 or load.failures, what="answers")
    assert (load.failures, load.seen("fresh")) == ([], {"one"})


def test_a_container_killed_while_it_is_watched_gives_way_to_the_old_one(
    stack: Compose, releases: dict[str, Path]
) -> None:
    serve(stack, releases["one"])
    stack.build(releases["two"], lambda _: None)
    with load_on(stack) as load:
        trial = stack.start(releases["two"])
        stack.switch(trial)
        until(lambda: "two" in load.seen("busy") or load.failures, what="the new release's answers")
        docker("kill", trial.id)
        with pytest.raises(StepFailed, match="died under watch"):
            stack.watch(20)
        stack.back()
        before = load.total
        until(lambda: load.total > before + 50 or load.failures, what="answers of the old one")
    assert load.failures == []
    now = stack.serving()
    assert now is not None
    assert now.release == "one"
    assert containers(stack) == ["running"]
    assert stack.agrees(releases["one"])


def test_after_a_reboot_the_release_in_service_answers(stack: Compose, releases: dict[str, Path]) -> None:
    serve(stack, releases["one"])
    serve(stack, releases["two"])
    name = stack._config.project
    ids = docker("ps", "-q", "--filter", f"label=com.docker.compose.project={name}").split()
    docker("restart", "--time", "1", *ids)
    until(lambda: (now := stack.serving()) is not None and now.release == "two", 30, "the release in service")
    until(lambda: stack.agrees(releases["two"]), 30, "HAProxy's agreement")
    # What is typed by hand finds nothing to do: docker/.env names the release.
    before = docker("ps", "-q", "--filter", f"label=com.docker.compose.project={name}").split()
    docker("compose", "-f", str(stack._config.root / "docker/docker-compose.yml"), "up", "-d")
    assert docker("ps", "-q", "--filter", f"label=com.docker.compose.project={name}").split() == before


def test_haproxy_away_and_a_switch_cut_short_are_put_right(stack: Compose, releases: dict[str, Path]) -> None:
    serve(stack, releases["one"])
    stack.build(releases["two"], lambda _: None)
    lost = Compose(stack._config)
    lost.switch(lost.start(releases["two"]))  # and then its caller died
    assert not stack.agrees(releases["one"])
    stack.up(releases["one"])
    assert stack.agrees(releases["one"])
    assert containers(stack) == ["running"]
    gateway = docker("ps", "-q", "--filter", f"name={stack._config.project}-haproxy")
    docker("rm", "-f", gateway)
    stack.up(releases["one"])
    now = stack.serving()
    assert now is not None
    assert now.release == "one"


def test_down_leaves_nothing_on_a_port(stack: Compose, releases: dict[str, Path]) -> None:
    assert stack.down() == []
    serve(stack, releases["one"])
    assert stack.down() == [f"plant-disease-api ({stack.url})", "haproxy"]
    assert stack.serving() is None
    assert containers(stack) == []
    stack.preflight()


def test_after_the_engine_has_left_a_swarm_up_serves_again(stack: Compose, releases: dict[str, Path]) -> None:
    """By leaving one, the engine forgets the names of all containers that run, and HAProxy finds them by name."""
    serve(stack, releases["one"])
    with swarm():
        pass
    until(lambda: not any(slot.up for slot in stack._gateway.slots()), 30, "that HAProxy finds nobody")
    stack.up(releases["one"])
    now = stack.serving()
    assert now is not None
    assert now.release == "one"
    assert stack.agrees(releases["one"])
    assert containers(stack) == ["running"]
