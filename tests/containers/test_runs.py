"""Whole runs that serve by the Docker stack, on a real engine, by the commands that a user types."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest

from api_client import free_port, refused, until
from api_client import get as ask
from conftest import plantops, sh
from containers import projects
from containers.engine import docker, need_image
from containers.projects import FirstRun, containers, ids, in_service, latest, name, reseed, whole
from pages import README, block
from plantops.config import load
from runs.cheap import answering, edit, get, state, url
from runs.test_faults import Asker
from runs.test_offline import timed

pytestmark = [pytest.mark.ci, pytest.mark.timeout(600)]


def releases(folder: Path) -> dict[str, dict[str, object]]:
    """`plantops releases --json`, by id."""
    return {one["id"]: one for one in json.loads(plantops("releases", "--json", cwd=folder).stdout)}


def answer(folder: Path) -> bool:
    """Whether MLflow's and Prometheus' pages answer."""
    config = load(folder)
    return [ask(port, "/").status < 400 for port in (config.mlflow.ui_port, config.prometheus.port)] == [True, True]


def replace(file: Path, text: str) -> None:
    """Exchange a file that somebody may be reading, the asker say."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    os.replace(fresh, file)


def compose(folder: Path, *words: str) -> str:
    """What the guide's `docker compose -f docker/docker-compose.yml WORDS` prints."""
    done = sh("docker", "compose", "-f", "docker/docker-compose.yml", *words, cwd=folder)
    return done.stdout + done.stderr


def test_the_first_run_ends_with_an_api_that_answers(first_run: FirstRun) -> None:
    folder, said = first_run.folder, first_run.said
    assert f"released: {first_run.release}\n" in said
    assert f"image {name(folder)}:{first_run.release}" in said
    assert f"open:     {url(folder)}/docs" in said
    log = folder / said.partition("log: ")[2].split()[0]
    assert ("Step 1/" in log.read_text(), "Step 1/" in said) == (True, False), "the builder's lines are for the log"
    release, told = whole(folder), state(folder)
    assert (told["in_service"]["id"], told["answering"]["release"]) == (release, release)
    assert (told["answering"]["status"], told["answering"]["url"]) == ("healthy", url(folder))
    assert f"answering   {release} on {url(folder)}" in plantops("status", cwd=folder).stdout
    assert plantops("run", "--dry-run", cwd=folder).stdout == "no changes\nnothing would run\n"
    assert f"in service: {release} on {url(folder)}" in plantops("run", cwd=folder).stdout


def test_what_the_guide_types_means_the_release_in_service(served: Path) -> None:
    release, before = whole(served), ids(served)
    assert f"{name(served)}:{release}" in compose(served, "ps")
    assert "plant-disease-api-" in compose(served, "logs", "plant-disease-api")
    assert "plant-disease-api" in plantops("logs", cwd=served).stdout
    compose(served, "up", "-d")
    assert ids(served) == before, "what runs already is left alone"
    compose(served, "restart")
    until(lambda: answering(served) == release, 30, "the release in service")
    assert whole(served) == release
    assert ids(served) == before


def test_the_docker_commands_of_the_readme_as_they_stand_there(served: Path) -> None:
    release, image = whole(served), f"{name(served)}:by-hand"
    text = block(README, "docker compose").replace("plant-disease-mlops:latest", image)
    try:
        assert f"{name(served)}:{release}" in sh("bash", "-e", "-c", text, cwd=served).stdout
        until(lambda: answering(served) == release, 30, "the release in service")
        assert docker("image", "inspect", image, "--format", "{{.Config.User}}").strip() not in ("", "root", "0")
    finally:
        docker("image", "rm", "-f", image, check=False)
    assert whole(served) == release


def test_a_second_training_switches_and_rollback_needs_no_network(served: Path) -> None:
    old = whole(served)
    reseed(served)
    config = served / "config.yaml"
    text = config.read_text()
    dry = plantops("run", "--dry-run", cwd=served).stdout
    assert "dry run: nothing was changed" in dry
    asker = Asker(served)
    asker.start()
    try:
        plantops("run", cwd=served)
        new = whole(served)
        images = set(docker("image", "ls", "-q", "--no-trunc", name(served)).split())
        closed = f"http://127.0.0.1:{free_port()}"
        proxies = {f"{one}_proxy": closed for one in ("http", "https", "all")}
        proxies |= {one.upper(): value for one, value in proxies.items()}
        replace(config, re.sub(r"(grafana: .*\n)  enabled: false", r"\1  enabled: true", text))
        done, said = timed(served, "rollback", **proxies, NO_PROXY="", no_proxy="")
    finally:
        replace(config, text)
        asker.stopped.set()
        asker.join()
    print(said)
    assert done.returncode == 0, said
    assert "grafana" not in said, "going back fetches nothing"
    assert whole(served) == old != new
    assert asker.seen == {old, new}
    assert set(docker("image", "ls", "-q", "--no-trunc", name(served)).split()) == images, "no build"
    listed = releases(served)
    assert (listed[old]["state"], listed[old]["image"]) == ("in service", True)
    assert (listed[new]["state"], listed[new]["image"]) == ("withdrawn", True)


def test_without_an_image_nothing_is_switched_and_the_list_says_so(served: Path) -> None:
    old = whole(served)
    reseed(served)
    told = plantops("run", "--skip-docker", cwd=served, check=False)
    assert told.returncode == 1
    assert "left out by --skip-docker" in told.stdout
    assert "there is no image" in told.stderr
    assert whole(served) == old
    (missing,) = [one for one, facts in releases(served).items() if not facts["image"]]
    (line,) = [one for one in plantops("releases", cwd=served).stdout.splitlines() if missing in one]
    assert line.endswith("no image")
    plantops("run", cwd=served)  # it is owed
    assert whole(served) == missing
    docker("image", "rm", f"{name(served)}:{old}")
    told = plantops("rollback", old, cwd=served)
    assert f"the image of {old} is not there: building it from its bundle" in told.stdout
    assert whole(served) == old


def test_an_image_of_older_code_is_recorded_as_such_and_owed_a_new_one(served: Path, tmp_path: Path) -> None:
    release = whole(served)
    image = f"{name(served)}:{release}"
    (tmp_path / "Dockerfile").write_text(f"FROM {image}\nLABEL org.plantops.serving-code=older\n")
    for tag in (image, f"{name(served)}:latest"):
        docker("build", "-t", tag, str(tmp_path))
    plantops("run", "--force", "--skip-dvc", "--skip-docker", cwd=served)
    assert whole(served) == release
    owed = plantops("run", "--dry-run", cwd=served).stdout
    assert "the serving code or its settings changed since the release went into service" in owed
    assert re.search(r"build +[\d.]+ s  image ", plantops("run", cwd=served).stdout)
    assert whole(served) == release
    assert plantops("run", "--dry-run", cwd=served).stdout == "no changes\nnothing would run\n"
    assert docker("inspect", "--format", '{{index .Config.Labels "org.plantops.serving-code"}}', image) != "older"


def test_force_tries_and_switches_the_same_model_again(served: Path) -> None:
    plantops("run", "--force", cwd=served)
    release, before = whole(served), ids(served)
    told = plantops("run", "--force", cwd=served).stdout
    assert f"same model as release {release}" in told
    assert re.search(r"try +[\d.]+ s  golden photos answered", told)
    assert re.search(rf"switch +[\d.]+ s  {release} answers", told)
    assert whole(served) == release
    assert ids(served) != before


def test_restart_is_another_container_of_the_same_release(served: Path) -> None:
    release, before = whole(served), ids(served)
    assert f"{release} answers, started anew" in plantops("restart", cwd=served).stdout
    assert whole(served) == release
    assert ids(served) != before


def test_haproxy_away_is_put_right_by_the_next_run(served: Path) -> None:
    release, before = whole(served), ids(served)
    docker("rm", "-f", *ids(served, "haproxy"))
    told = plantops("run", cwd=served).stdout
    assert f"{release} is in service and answers now" in told
    assert whole(served) == release
    assert ids(served) == before, "the API itself was well"


def test_an_address_that_moved_is_an_error_until_down_and_up(served: Path) -> None:
    release, port, other = whole(served), load(served).deploy.port, free_port()
    edit(served / "config.yaml", f"  port: {port}", f"  port: {other}")
    told = plantops("run", cwd=served, check=False)
    assert told.returncode == 2
    assert f"serves on 127.0.0.1:{port}, and config.yaml now says 127.0.0.1:{other}" in told.stderr
    assert "plantops down, then plantops up" in told.stderr
    assert get(f"http://127.0.0.1:{port}/health")["release"] == release
    plantops("down", cwd=served)
    plantops("up", cwd=served)
    assert whole(served) == release
    assert refused(port)


def test_the_pages_come_with_the_stack_and_go_with_it(served: Path) -> None:
    need_image("prom/prometheus:v2.53.2")
    release, config = whole(served), served / "config.yaml"
    before = ids(served)
    text = config.read_text()
    edit(config, "  mlflow: false", "  mlflow: true ")
    config.write_text(re.sub(r"(prometheus: .*\n)  enabled: false", r"\1  enabled: true", config.read_text()))
    pages = {
        "MLflow": f"http://127.0.0.1:{load(served).mlflow.ui_port}",
        "Prometheus": f"http://127.0.0.1:{load(served).prometheus.port}",
    }
    for folder in ("prometheus", "grafana"):
        sh("chmod", "-R", "go-rwx", served / "docker" / folder, cwd=served)  # as a strict umask leaves them
    try:
        said = plantops("up", cwd=served).stdout
        assert answer(served), "MLflow, and Prometheus, which runs as nobody"
        assert [f"{title:<10}  {page}" in said for title, page in pages.items()] == [True, True]
        assert ids(served) == before, "the API is not touched"
        assert state(served)["mlflow"] == pages["MLflow"]
        others = ids(served, "mlflow") + ids(served, "prometheus")
        said = plantops("run", "--force", cwd=served).stdout
        assert [f"{title} {page}" in said for title, page in pages.items()] == [True, True]
        assert ids(served, "mlflow") + ids(served, "prometheus") == others, "nor are they by a release"
        compose(served, "down")  # by hand, behind our back
        release = in_service(served)
        plantops("up", cwd=served)
        assert whole(served) == release
        assert len(ids(served, "mlflow") + ids(served, "prometheus")) == 2
        assert answer(served), "not started only"
        stopped = plantops("down", cwd=served).stdout
        assert [one in stopped for one in ("plant-disease-api", "haproxy", "mlflow", "prometheus")] == [True] * 4
        assert projects.everything(served) == []
        assert f"{name(served)}_prometheus" in docker("volume", "ls", "-q").split(), "volumes stay"
    finally:
        config.write_text(text)
    assert "plantops up" in plantops("status", cwd=served).stdout
    plantops("up", cwd=served)
    assert whole(served) == release
    assert containers(served, "prometheus") == []
    assert f"stopped MLflow on {pages['MLflow']}" in plantops("down", cwd=served).stdout, "this machine's own, then"


def test_two_projects_side_by_side_do_not_touch_each_other(served: Path, blank: Path) -> None:
    one, before = whole(served), ids(served)
    plantops("run", cwd=blank)
    two = whole(blank)
    assert (whole(served), ids(served)) == (one, before)
    plantops("down", cwd=served)
    assert (projects.everything(served), answering(served)) == ([], "")
    assert whole(blank) == two
    assert latest(served) == {one}
    began = time.monotonic()
    plantops("up", cwd=served)
    print(f"plantops up took {time.monotonic() - began:.1f} s")
    assert (whole(served), whole(blank)) == (one, two)
