"""`plantops backup` and `restore` on a small project: whole or not at all, no secrets, nothing overwritten unasked."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from api_client import until
from bundle_factory import TinyModel, make_release
from conftest import sh
from plantops import archive, lock
from plantops.backup import backup, restore
from plantops.bundle import Bundle
from plantops.config import Config, load
from plantops.console import Console
from plantops.errors import Busy, SetupError, StepFailed
from plantops.shelf import Shelf
from plantops.store import Release, Store, now

pytestmark = pytest.mark.ci

NAMES = ("1111111-a", "2222222-b")
SECRET = "hunter2"
CONTENTS = "plantops-backup.json"


def settle(root: Path) -> Config:
    """A project without a release: its files alone."""
    root.mkdir(parents=True)
    (root / "config.yaml").write_text("deploy: {backend: local}\n")
    (root / "params.yaml").write_text("seed: 1\nprepare: {raw: data/raw}\n")
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / "dvc.lock").write_text("schema: '2.0'\n")
    (root / "data/raw").mkdir(parents=True)
    (root / "data/raw/Rust.dvc").write_text("outs: [{md5: abc.dir, path: Rust}]\n")
    return load(root)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A project of two releases, the first of them in service, with a database like MLflow's."""
    config = settle(tmp_path / "one")
    shelf = Shelf(config.models)
    with Store(config.state) as store:
        for number, name in enumerate(NAMES):
            digest = Bundle.load(make_release(shelf.release(name), TinyModel(number))).digest
            store.add_release(Release(name, now(), None, digest, True, None, number + 1, None))
        store.put_in_service(NAMES[0], "code", "a test")
        store.finish(store.begin("by hand", {}, "f", {"a": 1}), "released", {"a": 1}, NAMES[0])
    shelf.produce(NAMES[0])
    (config.state / "spool").mkdir()
    (config.state / "spool/aliases.json").write_text("{}")
    artifacts = config.root / "mlruns/artifacts"
    (artifacts / "r1/artifacts").mkdir(parents=True)
    (artifacts / "r1/artifacts/model.bin").write_bytes(os.urandom(3_000_000))
    with closing(sqlite3.connect(config.root / "mlruns/mlflow.db")) as db, db:
        db.execute("CREATE TABLE experiments (name, artifact_location)")
        db.execute("INSERT INTO experiments VALUES ('ours', ?), ('theirs', '/elsewhere/mlruns')", [str(artifacts)])
    return config


def contents(root: Path) -> dict[str, bytes]:
    """All files, but for locks, SQLite's own and what is set aside."""
    passing = (".lock", "-wal", "-shm")
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and (not path.name.endswith(passing) or path.name == "dvc.lock")
        and not {"backups", "logs"} & set(path.relative_to(root).parts)
    }  # fmt: skip


def remembered(config: Config) -> tuple[object, ...]:
    """What the store knows."""
    with Store(config.state, readonly=True) as store:
        return store.releases(), store.in_service(), store.runs()


def saved(config: Config) -> Path:
    return backup(config, Console(io.StringIO()), None)


def restored(config: Config, source: Path, force: bool = False) -> str:
    return "\n".join(restore(config, Console(io.StringIO()), source, force))


def remade(source: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> Path:
    """The same archive with some members changed or left out; the list of digests is as it was."""
    target = source.with_name("remade.tar")
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old:
            content = old.extractfile(member)
            assert content
            if changed := change(member.name, content.read()):
                info = tarfile.TarInfo(changed[0])
                info.size = len(changed[1])
                new.addfile(info, io.BytesIO(changed[1]))
    return target


def test_a_backup_brings_it_all_back_in_another_folder(config: Config, tmp_path: Path) -> None:
    before = contents(config.root)
    source = saved(config)
    assert source.parent == config.state / "backups"
    assert source.stat().st_mode & 0o777 == 0o600
    assert contents(config.root) == before, "a backup changes nothing"
    other = settle(tmp_path / "two")
    (other.root / "params.yaml").write_text("seed: 7\n")
    told = restored(other, source)
    assert "restored" in told
    (aside,) = other.state.glob("replaced-*")
    assert (aside / "params.yaml").read_text() == "seed: 7\n"
    assert [path.name for path in aside.rglob("*")] == ["params.yaml"], "what is the same stays"
    assert remembered(other) == remembered(config)
    with closing(sqlite3.connect(other.root / "mlruns/mlflow.db")) as db:
        places = [row[0] for row in db.execute("SELECT artifact_location FROM experiments")]
    assert places == [str(other.root / "mlruns/artifacts"), "/elsewhere/mlruns"]
    shutil.rmtree(aside)
    now_there, databases = contents(other.root), {".plantops/state.db", "mlruns/mlflow.db"}
    assert {name: one for name, one in now_there.items() if name not in databases} == {
        name: one for name, one in before.items() if name not in databases
    }
    assert databases <= now_there.keys()


def test_no_secret_gets_into_it(config: Config) -> None:
    root = config.root
    uri = f"http://me:{SECRET}@mlflow.example:5000"
    (root / "config.yaml").write_text(f"deploy: {{backend: local}}\nmlflow: {{tracking_uri: '{uri}'}}\n")
    (root / "data/raw/Rust.dvc").write_text(f"outs: [{{path: Rust}}]\ndeps: [{{path: 'https://me:{SECRET}@host/a'}}]\n")
    (config.models / "releases" / NAMES[0] / "lineage.json").write_text(json.dumps({"diff": f"+ {uri}"}))
    for name in (".env", "docker/.env", ".dvc/config.local", ".dvc/config", ".git/config", "secrets.yaml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"password: {SECRET}\n")
    source = saved(load(root))
    with tarfile.open(source) as tar:
        names = tar.getnames()
    assert SECRET.encode() not in source.read_bytes()
    assert not [name for name in names if ".env" in name or name.startswith((".dvc", ".git", "secrets", "mlruns"))]
    assert SECRET in (root / "config.yaml").read_text()
    # A file that differs by its password alone is the same file, and keeps it.
    restored(load(root), source, force=True)
    assert SECRET in (root / "config.yaml").read_text()
    assert SECRET in (root / "data/raw/Rust.dvc").read_text()
    # Another one comes back without it, and that is said.
    (root / "config.yaml").write_text("deploy: {backend: local}\n")
    told = restored(load(root), source, force=True)
    assert "config.yaml is without its passwords" in told
    assert SECRET not in (root / "config.yaml").read_text()


def test_releases_are_overwritten_only_by_force_and_then_set_aside(config: Config) -> None:
    source = saved(config)
    with Store(config.state) as store:
        store.put_in_service(NAMES[1], "code", "after the backup")
    make_release(config.models / "releases/3333333-c")
    later = remembered(config)
    with pytest.raises(SetupError, match="has 2 releases already") as refused:
        restored(config, source)
    assert "--force" in refused.value.hint
    assert remembered(config) == later
    told = restored(config, source, force=True)
    (aside,) = config.state.glob("replaced-*")
    assert str(aside.relative_to(config.root)) in told
    assert (aside / "models/releases/3333333-c/model.onnx").is_file()
    assert not (config.models / "releases/3333333-c").exists()
    with Store(config.state, readonly=True) as store, Store(aside / ".plantops", readonly=True) as old:
        assert store.in_service().id == NAMES[0]
        assert old.in_service().id == NAMES[1]


def test_a_restore_that_fails_leaves_all_as_it_was(config: Config) -> None:
    source = saved(config)
    shutil.rmtree(config.root / "mlruns")
    (config.root / "mlruns").write_text("in the way")
    before = contents(config.root)
    with pytest.raises(StepFailed, match="nothing was restored, all is as it was"):
        restored(config, source, force=True)
    after = {name: one for name, one in contents(config.root).items() if "replaced-" not in name}
    assert after == before
    assert not [path for one in config.state.glob("replaced-*") for path in one.rglob("*") if path.is_file()]


def test_not_while_a_run_goes_on_but_a_backup_is_no_reason_to_wait(config: Config) -> None:
    with lock.hold(config.state):
        source = saved(config)
        with pytest.raises(Busy, match="another run is going"):
            restored(config, source, force=True)
    with lock.hold(config.state, lock.BACKUP), pytest.raises(Busy, match="another backup"):
        backup(config, Console(io.StringIO()), config.root / "another.tar")
    with pytest.raises(SetupError, match="exists already"):
        backup(config, Console(io.StringIO()), source)
    with pytest.raises(SetupError, match="there is no file"):
        restored(config, config.root / "none.tar")


def other_member(name: str, content: bytes) -> Callable[[str, bytes], tuple[str, bytes] | None]:
    """Puts a member of another name in the place of the params."""

    def change(one: str, data: bytes) -> tuple[str, bytes]:
        if one == CONTENTS:
            about = json.loads(data)
            about["files"][name] = about["files"].pop("params.yaml")
            data = json.dumps(about).encode()
        return (name, data) if one == "params.yaml" else (one, data)

    return change


def newer_format(name: str, data: bytes) -> tuple[str, bytes]:
    return name, data.replace(b'"format": 1', b'"format": 9') if name == CONTENTS else data


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda name, data: (name, data.replace(b"seed: 1", b"seed: 2")), "damaged: params.yaml"),
        (lambda name, data: None if name.endswith("model.onnx") else (name, data), "damaged: models/"),
        (lambda name, data: None if name == CONTENTS else (name, data), "no whole backup"),
        (newer_format, "newer plantops"),
        (other_member("../escaped", b""), "'../escaped', which no backup"),
        (other_member("/tmp/escaped", b""), "'/tmp/escaped', which no backup"),
        (other_member("data/../../escaped", b""), "which no backup"),
        (other_member(".git/hooks/post-checkout", b""), "'.git/hooks/post-checkout', which no backup"),
        (other_member(".plantops/local/supervisor.json", b""), "which no backup"),
    ],
)  # fmt: skip
def test_an_archive_that_is_not_ours_is_refused_untouched(
    config: Config, change: Callable[[str, bytes], tuple[str, bytes] | None], says: str
) -> None:
    source = remade(saved(config), change)
    before = contents(config.root)
    with pytest.raises(SetupError, match="(?s)" + says.replace(".", r"\.")):
        restored(config, source, force=True)
    assert contents(config.root) == before
    assert not (config.root.parent / "escaped").exists()


def test_links_cut_and_foreign_files_are_no_backups(config: Config, tmp_path: Path) -> None:
    source, before = saved(config), contents(config.root)
    cut = tmp_path / "cut.tar"
    cut.write_bytes(source.read_bytes()[:-20_000])
    foreign = tmp_path / "foreign.tar"
    foreign.write_text("no archive")
    linked = tmp_path / "linked.tar"
    with tarfile.open(linked, "w") as tar:
        link = tarfile.TarInfo("models/releases")
        link.type, link.linkname = tarfile.SYMTYPE, "/tmp"
        tar.addfile(link)
    for one, says in ((cut, "no whole backup"), (foreign, "no whole backup"), (linked, "which no backup")):
        with pytest.raises(SetupError, match=says):
            restored(config, one, force=True)
    assert contents(config.root) == before


def test_a_database_of_a_newer_plantops_or_a_damaged_one_is_refused(config: Config, tmp_path: Path) -> None:
    before, database = contents(config.root), tmp_path / "state.db"
    about = {"root": str(config.root), "created": "today", "mlflow": None}
    user_version = 60  # where SQLite's header has it
    for place, spoiled, says in (
        (user_version, b"\0\0\0\x63", "newer plantops"),
        (0, b"none at all", "cannot be used"),
    ):
        shutil.copyfile(config.state / "state.db", database)
        with database.open("r+b") as file:
            file.seek(place)
            file.write(spoiled)
        source = tmp_path / f"{says}.tar"
        archive.write(source, {".plantops/state.db": database}, about, lambda _: None)
        with pytest.raises(SetupError, match=says):
            restored(config, source, force=True)
    assert contents(config.root) == before


def test_a_killed_backup_leaves_no_archive_and_is_in_nobodys_way(config: Config) -> None:
    script = (
        "import sys; from pathlib import Path; from plantops.backup import backup; from plantops.config import load;"
        "from plantops.console import Console; backup(load(Path(sys.argv[1])), Console(), Path(sys.argv[2]))"
    )
    target = config.root.parent / "backup.tar"
    big = config.root / "mlruns/artifacts/r1/artifacts/pipe"
    os.mkfifo(big.with_name("not a file"))  # no backup waits for one
    with big.open("wb") as file:
        file.truncate(3_000_000_000)
    child = subprocess.Popen([sys.executable, "-c", script, config.root, target], stdout=subprocess.DEVNULL)
    try:
        part = target.with_name(f".{target.name}.new")
        until(lambda: part.exists() and part.stat().st_size > 10_000_000, what="the packing")
    finally:
        child.kill()
        child.wait()
    assert not target.exists()
    big.unlink()
    backup(config, Console(io.StringIO()), target)
    assert not part.exists()
    assert not (config.state / "backup.new").exists()
    restored(config, target, force=True)


def test_backups_are_of_one_moment_while_releases_come_and_go(config: Config, tmp_path: Path) -> None:
    """Another process stages, puts in service and removes, with the locks that a run and gc take."""
    script = (
        "import itertools, shutil, sys; from pathlib import Path; from plantops import lock, whole\n"
        "from plantops.config import load; from plantops.shelf import Shelf; from plantops.store import *\n"
        "config = load(Path(sys.argv[1])); shelf = Shelf(config.models); names = []\n"
        "with Store(config.state) as store:\n"
        "    for number in itertools.count():\n"
        "        name = f'r{number}'; names.append(name)\n"
        "        def fill(folder):\n"
        "            shutil.copytree(shelf.release('1111111-a'), folder, dirs_exist_ok=True)\n"
        '            (folder / \'release.json\').write_text(\'{"release": "%s", "digest": "d"}\' % name)\n'
        "        whole.appear(shelf.release(name), fill)\n"
        "        store.add_release(Release(name, now(), None, 'd', True, None, None, None))\n"
        "        with lock.hold(config.state, lock.SWITCH, 60):\n"
        "            store.put_in_service(name, 'code', 'test')\n"
        "            with lock.hold(config.state, lock.VIEWS, 60): shelf.produce(name)\n"
        "        if len(names) > 3:\n"
        "            with lock.hold(config.state), lock.hold(config.state, lock.SWITCH, 60):\n"
        "                whole.vanish(shelf.release(names[number - 3]))\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, config.root])
    sources = []
    try:
        until(lambda: re.fullmatch(r"r([5-9]|\d\d+)", Shelf(config.models).produced() or ""), what="some releases")
        for number in range(3):
            sources.append(backup(config, Console(io.StringIO()), tmp_path / f"{number}.tar"))
            came = int(Shelf(config.models).produced()[1:])
            until(lambda: int(Shelf(config.models).produced()[1:]) > came, what="another release")  # noqa: B023
    finally:
        child.kill()
        child.wait()
    for number, source in enumerate(sources):
        other = settle(tmp_path / f"other{number}")
        restored(other, source)
        shelf = Shelf(other.models)
        with Store(other.state, readonly=True) as store:
            assert store.in_service().id == shelf.produced()
            assert Bundle.load(shelf.release(shelf.produced())).golden()
            assert {one.name for one in shelf.releases.iterdir()} <= {one.id for one in store.releases()}


def test_the_commands(config: Config, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "plantops"]
    told = sh(*command, "backup", "../kept.tar", cwd=config.root).stdout
    assert f"{tmp_path}/kept.tar  3." in told
    other = settle(tmp_path / "two")
    told = sh(*command, "restore", tmp_path / "kept.tar", cwd=other.root).stdout
    assert "plantops up" in told
    listed = json.loads(sh(*command, "releases", "--json", cwd=other.root).stdout)
    assert [(one["id"], one["state"], one["there"]) for one in listed] == [
        (NAMES[1], "", True), (NAMES[0], "in service", True),
    ]  # fmt: skip
    again = sh(*command, "restore", tmp_path / "kept.tar", cwd=other.root, check=False)
    assert (again.returncode, "has 2 releases already" in again.stderr) == (2, True)
