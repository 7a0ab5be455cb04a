"""plantops gc on a real engine: which images go, and which are kept by their use."""

from __future__ import annotations

import json
import shutil
import uuid
from dataclasses import replace
from pathlib import Path

import docker as sdk
import pytest

from bundle_factory import TinyModel, make_release
from containers.engine import docker
from plantops import tidy
from plantops.bundle import Bundle
from plantops.config import Config
from plantops.console import Console
from plantops.deploy import image
from plantops.deploy.compose import Compose
from plantops.errors import SetupError
from plantops.releases import listed, roll_back
from plantops.store import Release, Store, now

pytestmark = [pytest.mark.ci, pytest.mark.timeout(600)]


def tags(config: Config) -> set[str]:
    """What the project's image name is followed by."""
    return set(docker("image", "ls", "--format", "{{.Tag}}", config.docker.image).split())


def nameless(release: str) -> list[str]:
    """Images of a release that have no name."""
    label = f"label=org.plantops.release={release}"
    return docker("image", "ls", "-q", "--filter", "dangling=true", "--filter", label).split()


def test_images_of_older_releases_and_builds_that_lost_their_name_go(
    stack: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, mark = stack._config, uuid.uuid4().hex[:6]
    names = [f"{mark}-{letter}" for letter in "abcdef"]
    for number, name in enumerate(names):
        folder = make_release(config.models / "releases" / name, TinyModel(number))
        stack.build(folder, lambda _: None)
        with Store(config.state) as store:
            digest = Bundle.load(folder).digest
            store.add_release(Release(name, now(), None, digest, True, None, None, None))
            if name == names[0]:
                store.put_in_service(name, "code", "run")
    a, b, c, d, e, f = names
    # a serves. c is used by a container that has ended. b and f were built twice, and one build can have the name.
    stack.up(config.models / "releases" / a)
    docker("create", "--name", f"{config.project}-mine", f"{config.docker.image}:{c}")
    for name in (b, f):
        again = make_release(tmp_path / "again" / name, TinyModel(9))
        stack.build(again, lambda _: None)
        shutil.rmtree(again)
        assert len(nameless(name)) == 1
    docker("tag", f"{config.docker.image}:{d}", f"{config.docker.image}:by-hand")
    other = replace(config, docker=replace(config.docker, image=f"{config.project}-other"))
    image.build(sdk.from_env(), other, config.models / "releases" / d, lambda _: None)
    everything = {*names, "latest", "by-hand"}
    try:
        tidy.tidy(config, Console(), 2, with_dvc=False, dry_run=True, as_json=True)
        dry = json.loads(capsys.readouterr().out)
        assert tags(config) == everything
        assert (len(nameless(b)), len(nameless(f))) == (1, 1)
        tidy.tidy(config, Console(), 2, with_dvc=False, dry_run=False, as_json=True)
        wet = json.loads(capsys.readouterr().out)
        assert wet["removed"] == dry["removed"]
        assert tags(config) == {a, c, e, f, "latest", "by-hand"}
        assert (nameless(b), nameless(f)) == ([], [])
        assert tags(other) == {d}, "another project's"
        images = {one["name"]: one["bytes"] for one in wet["removed"] if one["kind"] == "image"}
        assert set(images) == {
            *(f"{config.docker.image}:{name}" for name in (b, d)),
            *(f"{name} (another build)" for name in (b, f)),
        }
        assert images[f"{config.docker.image}:{d}"] == 0, "it has other names still"
        assert 0 < images[f"{b} (another build)"] < 5_000_000, "the model's layer alone"
        assert stack.agrees(config.models / "releases" / a)
        with Store(config.state, readonly=True) as store:
            seen = {one.release.id: (one.there, one.image) for one in listed(config, store)}
        assert seen == {
            a: (True, True), b: (False, False), c: (False, True), d: (False, False), e: (True, True), f: (True, True)
        }  # fmt: skip
        with pytest.raises(SetupError, match=f"bundle of {b} is gone"):
            roll_back(config, Console(), b)
        assert stack.agrees(config.models / "releases" / a)
    finally:
        docker("rm", "-f", f"{config.project}-mine", check=False)
        docker("image", "rm", "-f", *(f"{other.docker.image}:{one}" for one in tags(other)), check=False)
    tidy.tidy(config, Console(), 2, with_dvc=False, dry_run=False, as_json=False)
    assert f"{config.docker.image}:{c} " in capsys.readouterr().out, "nothing uses it any more"
    assert tags(config) == {a, e, f, "latest", "by-hand"}


def test_without_an_engine_nothing_goes(stack: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    config = stack._config
    for letter in "abc":
        folder = make_release(config.models / "releases" / letter, TinyModel(1))
        with Store(config.state) as store:
            store.add_release(Release(letter, now(), None, Bundle.load(folder).digest, True, None, None, None))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(SetupError, match="engine does not answer"):
        tidy.tidy(config, Console(), 1, with_dvc=False, dry_run=False, as_json=False)
    assert {one.name for one in (config.models / "releases").iterdir()} == set("abc")
