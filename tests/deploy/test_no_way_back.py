"""A release that answers worse, and that cannot be left at once: it is said, and tried again."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from api_client import predict, until
from bundle_factory import TinyModel, make_release, photo
from plantops import behaviour, deploy, lock, releases
from plantops.behaviour import FEWEST_PHOTOS, Figures
from plantops.bundle import Bundle
from plantops.config import Config, DeployConfig
from plantops.console import Console
from plantops.deploy.local import Local
from plantops.errors import SetupError
from plantops.probation import figures
from plantops.store import BEFORE, MISBEHAVES, Release, Store, now
from plantops.watch import guard

pytestmark = pytest.mark.ci


@pytest.fixture
def config(local: Local, tmp_path: Path) -> Config:
    """``good`` was in service, ``bad`` is: it answers, and is far less sure than what is known of ``good``."""
    (root,) = tmp_path.iterdir()
    made = Config(root, root / "config.yaml", deploy=DeployConfig(
        backend="local", port=local.public.port, auto_rollback="on",
    ))  # fmt: skip
    for name, model in (("good", TinyModel(1)), ("bad", TinyModel(1, temperature=30.0))):
        bundle = Bundle.load(make_release(made.models / "releases" / name, model))
        with Store(made.state) as store:
            store.add_release(Release(name, now(), None, bundle.digest, True, None, None, None))
            store.put_in_service(name, "code", f"run of {name}")
            classes = dict.fromkeys(bundle.manifest.classes, 20.0)
            photos = sum(classes.values())
            before = Figures("good", photos, classes, photos, photos, requests=photos)
            store.note(name, BEFORE, json.dumps(before.to_dict()))
    local.up(made.models / "releases/bad")
    for number in range(int(FEWEST_PHOTOS)):
        assert predict(local.public.port, photo(number)).status == 200
    return made


def noted(config: Config) -> str:
    with Store(config.state, readonly=True) as store:
        return store.noted("bad", MISBEHAVES)


def test_it_goes_back_as_soon_as_it_can(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "EVERY_S", 0.0)
    said: list[str] = []
    watching = guard.Guard(said.append)
    good = config.models / "releases/good"
    good.rename(tmp_path / "aside")
    for _ in range(2):
        watching.look(config, Console())
        assert not noted(config)
    assert [one.split(":")[0] for one in said] == [
        "bad answers worse than the release before it",
        "could not go back",
    ]
    (tmp_path / "aside").rename(good)
    watching.look(config, Console())
    assert said[2:] == ["good is in service again; bad is not deployed again by itself"]
    assert "confidence fell" in noted(config)
    with Store(config.state, readonly=True) as store:
        assert [one.release for one in store.served()] == ["good", "bad", "good"]


def test_it_goes_back_while_a_run_goes_on(config: Config) -> None:
    with lock.hold(config.state):
        guard.Guard(print).look(config, Console())
    assert "confidence fell" in noted(config)


def test_what_is_slow_while_a_run_goes_on_is_no_reason_then_nor_later(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "EVERY_S", 0.0)
    monkeypatch.setattr(behaviour, "_SLOWER_S", 0.0)
    bad = figures(deploy.get(config))
    assert bad is not None
    with Store(config.state) as store:
        store.note("bad", BEFORE, json.dumps(replace(bad, release="good", seconds=1e-6).to_dict()))
    watching = guard.Guard(print)
    with lock.hold(config.state):
        watching.look(config, Console())
    watching.look(config, Console())
    assert not noted(config)
    for number in range(int(FEWEST_PHOTOS)):
        assert predict(config.deploy.port, photo(number)).status == 200
    watching.look(config, Console())
    assert "times slower" in noted(config)


def test_it_looks_on_beside_a_run_of_its_own(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "EVERY_S", 0.05)
    looks: list[float] = []
    with guard.Guard(print).beside(config, Console(), lambda: looks.append(time.monotonic())), lock.hold(config.state):
        until(lambda: noted(config), 60, "the way back")
        until(lambda: len(looks) > 2, 20, "more looks")
    seen = len(looks)
    assert not [one for one in threading.enumerate() if one.name == "guard"]
    assert seen == len(looks)


def test_what_was_not_judged_is_not_left(config: Config) -> None:
    with Store(config.state) as store:
        store.put_in_service("good", "code", "rollback by somebody")
    with pytest.raises(SetupError, match="bad is not in service any more"):
        releases.roll_back(config, Console(), None, ["wrong"], leaving="bad")
    with Store(config.state, readonly=True) as store:
        assert not any(one.withdrawn for one in store.releases())
