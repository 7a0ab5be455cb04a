"""A lost state database: what the files of the releases still say, and what is written anew."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from bundle_factory import TinyModel, make_bundle
from plantops import lock, recall, recover
from plantops.bundle import Bundle
from plantops.config import Config, MlflowConfig
from plantops.console import Console
from plantops.errors import Busy, SetupError
from plantops.shelf import Shelf
from plantops.store import FILE, PERHAPS, Release, Store

NAMES = ("1111111-a", "2222222-b", "3333333-c")
INPUTS = {"params.yaml": {"seed": 1}}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A place of three releases, the second of them in service; MLflow's server is away."""
    away = MlflowConfig(tracking_uri="http://127.0.0.1:9", required=False)
    config = Config(root=tmp_path, file=tmp_path / "config.yaml", mlflow=away)
    shelf = Shelf(config.models)
    for number, name in enumerate(NAMES):
        folder = make_bundle(shelf.release(name), TinyModel(number))
        facts = {
            "release": name, "digest": Bundle.load(folder).digest, "created": f"2026-01-0{number + 1}T00:00:00+00:00",
            "run": f"run-{number}", "sample_data": True, "fingerprint": f"f{number}", "serving_code": "code",
            "mlflow": {"run": f"m{number}", "version": number + 1},
        }  # fmt: skip
        (folder / "release.json").write_text(json.dumps(facts))
        (folder / "lineage.json").write_text(json.dumps({"inputs": {**INPUTS, "number": number}}))
    shelf.produce(NAMES[1])
    return config


def mended(config: Config) -> str:
    """What mending says."""
    out = io.StringIO()
    recover.mend(config, Console(out))
    return out.getvalue()


def of_many_runs(config: Config) -> Path:
    """A database of some hundred pages."""
    with Store(config.state) as store, store.transaction():
        for number in range(20):
            store.remember_settled(f"{number}", "2026-01-01", "f", {"many": "x" * 9000}, NAMES[0])
        for number, name in enumerate(NAMES):
            store.add_release(Release(name, f"2026-01-0{number + 1}", None, f"d{number}", True, None, None, None))
    return config.state / FILE


@pytest.fixture(params=["gone", "no database", "damaged inside", "cut short"])
def lost(request: pytest.FixtureRequest, config: Config) -> Config:
    if request.param == "no database":
        config.state.mkdir()
        (config.state / FILE).write_bytes(b"no database at all, whatever its name says" * 200)
    elif request.param == "damaged inside":
        with of_many_runs(config).open("r+b") as file:
            file.seek(30 * 4096)
            file.write(b"\xa5" * 4096 * 4)
    elif request.param == "cut short":
        with of_many_runs(config).open("r+b") as file:
            file.truncate(5 * 4096)
    return config


def test_nothing_is_lost_where_nothing_was_or_all_is_there(config: Config, tmp_path: Path) -> None:
    none = Config(root=tmp_path / "none", file=tmp_path / "none/config.yaml")
    assert recall.lost(none) == ""
    assert mended(none) == ""
    assert not none.state.exists()
    mended(config)
    assert recall.lost(config, thorough=True) == ""
    assert mended(config) == ""


def test_looking_tells_the_releases_and_changes_nothing(lost: Config) -> None:
    before = {path: path.read_bytes() for path in lost.root.rglob("*") if path.is_file()}
    with recall.look(lost) as store:
        assert [one.id for one in store.releases()] == [*reversed(NAMES)]
        assert store.in_service().id == NAMES[1]
        assert store.previous().id == NAMES[0]
        assert store.release(NAMES[2]).withdrawn == PERHAPS
        assert store.last_settled().left_behind == {**INPUTS, "number": 2}
    now = {path: path.read_bytes() for path in lost.root.rglob("*") if path.is_file()}
    assert {path: now.get(path) for path in before} == before
    assert {path.name for path in now.keys() - before} <= {FILE + "-shm", FILE + "-wal"}


def test_the_database_is_written_anew_and_the_broken_one_kept(lost: Config) -> None:
    broken = (lost.state / FILE).read_bytes() if (lost.state / FILE).exists() else None
    said = mended(lost)
    assert "3 releases came back" in said
    assert f"{NAMES[1]} in service; {NAMES[2]} may have been withdrawn" in said
    assert "lost are earlier runs, withdrawals" in said
    assert said.count("\n") == 1
    kept = [path for path in lost.state.glob(f"{FILE}.corrupt-*") if not path.name.endswith(("-wal", "-shm"))]
    assert [path.read_bytes() for path in kept] == ([] if broken is None else [broken])
    assert mended(lost) == ""
    with Store(lost.state, readonly=True) as store:
        assert [(one.id, one.version, one.mlflow_run) for one in store.releases()] == [
            (NAMES[2], 3, "m2"), (NAMES[1], 2, "m1"), (NAMES[0], 1, "m0"),
        ]  # fmt: skip
        assert (store.in_service().id, store.serving_code()) == (NAMES[1], "code")
        assert store.unfinished(going_on=False) == []


def test_killed_while_setting_aside_a_log_alone_is_in_nobodys_way(config: Config, tmp_path: Path) -> None:
    """The database has its new name, its log not yet; the log holds another release in service."""
    mended(config)
    with Store(config.state) as store:
        store.put_in_service(NAMES[2], "code", "in the log alone")
        shutil.copyfile(config.state / f"{FILE}-wal", tmp_path / "log")
    for path in config.state.glob(f"{FILE}*"):
        path.unlink()
    shutil.copyfile(tmp_path / "log", config.state / f"{FILE}-wal")
    assert "is gone: 3 releases came back" in mended(config)
    with Store(config.state, readonly=True) as store:
        assert store.in_service().id == NAMES[1]


def test_without_production_nobody_is_put_in_service(config: Config) -> None:
    shutil.rmtree(config.models / "production")
    assert "none of them known to be in service" in mended(config)
    with Store(config.state, readonly=True) as store:
        assert store.in_service() is None
        assert {one.withdrawn for one in store.releases()} == {PERHAPS}


def test_what_the_registry_and_the_api_know_counts_more_than_files(config: Config) -> None:
    with Store(None) as store:
        recall.refill(config, store, answering=NAMES[2], previous=NAMES[0], versions={NAMES[2]: 7})
        assert store.in_service().id == NAMES[2]
        assert store.in_service().version == 7
        assert store.previous().id == NAMES[0], "the one in between may have been withdrawn"
    with Store(None) as store:
        recall.refill(config, store, answering="not one of ours")
        assert store.in_service().id == NAMES[1]


def test_a_release_with_broken_files_is_left_out_and_its_neighbours_are_not(config: Config) -> None:
    (config.models / "releases" / NAMES[0] / "release.json").write_text("{")
    (config.models / "releases" / NAMES[2] / "lineage.json").write_text("[]")
    with recall.look(config) as store:
        assert [one.id for one in store.releases()] == [NAMES[2], NAMES[1]]
        assert store.last_settled().release == NAMES[1]


def test_nothing_is_written_anew_while_a_run_is_going(lost: Config) -> None:
    with lock.hold(lost.state), pytest.raises(Busy, match="another run is going"):
        mended(lost)
    assert recall.lost(lost)
    assert not list(lost.state.glob("*.corrupt-*"))


def test_a_newer_database_is_not_taken_for_a_lost_one(config: Config) -> None:
    with Store(config.state):
        pass
    with sqlite3.connect(config.state / FILE) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    for ask in (recall.look, recall.lost, mended):
        with pytest.raises(SetupError, match="newer plantops"):
            ask(config)
    assert not list(config.state.glob("*.corrupt-*"))
