"""plantops gc: what goes, and above all what stays. Real git history, a real DVC cache, a real remote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from bundle_factory import TinyModel, make_release
from conftest import photo, plantops, sh
from plantops import cache, git, lock, tidy
from plantops.bundle import Bundle
from plantops.config import Config, DeployConfig
from plantops.console import Console
from plantops.errors import Busy, SetupError
from plantops.releases import listed, roll_back
from plantops.shelf import Shelf
from plantops.store import Release, Store, now

RAW = Path("data/raw/PlantVillage")
STAGE = """\
import pathlib, shutil, yaml
number, out = yaml.safe_load(open('params.yaml'))['number'], pathlib.Path('out')
out.mkdir()
(out / 'number.txt').write_text(f'number {number}')
(out / 'same.txt').write_text('in every output')
for number, leaf in enumerate(sorted(pathlib.Path('data/raw/PlantVillage').rglob('*.jpg'))):
    shutil.copyfile(leaf, out / f'golden{number}.jpg')
"""
PIPELINE = """\
stages:
  make:
    cmd: python stage.py
    deps: [stage.py]
    params: [number]
    outs: [out]
"""


def config_of(root: Path) -> Config:
    return Config(root, root / "config.yaml", deploy=DeployConfig(backend="local"))


def gc(root: Path, keep: int = 5, *, with_dvc: bool = False, dry_run: bool = False) -> None:
    tidy.tidy(config_of(root), Console(), keep, with_dvc, dry_run, as_json=False)


def release(config: Config, name: str, served: bool = False, withdraw: str | None = None) -> None:
    """A release on the shelf and in the store."""
    folder = make_release(config.models / "releases" / name, TinyModel(1))
    with Store(config.state) as store:
        store.add_release(Release(name, now(), None, f"{name}-{Bundle.load(folder).digest}", True, None, None, None))
        if served:
            store.put_in_service(name, "code", "run", withdraw)


def on_shelf(root: Path) -> set[str]:
    return {one.name for one in (root / "models/releases").iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file; but for those that SQLite makes to read a database."""
    files = [one for one in folder.rglob("*") if one.is_file() and not one.name.startswith("state.db-")]
    return {str(one.relative_to(folder)): one.read_bytes() for one in files}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Releases a to h, oldest first: b is in service, a was before it, c was withdrawn."""
    config = config_of(tmp_path)
    for name in "abcdefgh":
        release(config, name, served=name in "ac")
    with Store(config.state) as store:
        store.put_in_service("b", "code", "rollback", withdraw="c")
    return tmp_path


def test_logs_go_of_runs_that_ended_before_the_oldest_release_that_stays(root: Path) -> None:
    logs = root / ".plantops/logs"
    logs.mkdir()
    with Store(root / ".plantops") as store:
        oldest = datetime.fromisoformat(store.release("a").created).timestamp()  # type: ignore[union-attr]
    for name, after in (("20260101-000000-aaaa", -60), ("20260102-000000-bbbb", 60), ("prometheus", -60)):
        (logs / f"{name}.log").write_text("said")
        os.utime(logs / f"{name}.log", (oldest + after, oldest + after))
    gc(root, keep=1, dry_run=True)
    assert len(list(logs.iterdir())) == 3
    gc(root, keep=1)
    assert {one.name for one in logs.iterdir()} == {"20260102-000000-bbbb.log", "prometheus.log"}


def test_logs_stay_where_nobody_knows_when_the_oldest_release_was_made(root: Path) -> None:
    log = root / ".plantops/logs/20260101-000000-aaaa.log"
    log.parent.mkdir()
    log.write_text("said")
    os.utime(log, (0, 0))
    with Store(root / ".plantops") as store:
        store._db.execute("UPDATE release SET created = '' WHERE id = 'a'")
    gc(root, keep=1)
    assert log.exists()


def test_what_serves_where_a_rollback_goes_and_the_newest_stay(root: Path) -> None:
    whole = {name: contents(root / "models/releases" / name) for name in "abgh"}
    gc(root, keep=2)
    assert {name: contents(root / "models/releases" / name) for name in on_shelf(root)} == whole
    gc(root, keep=2)
    assert on_shelf(root) == set("abgh")


def test_a_withdrawn_one_among_the_newest_stays_and_enough_of_them_is_everything(root: Path) -> None:
    gc(root, keep=6)
    assert on_shelf(root) == set("abcdefgh")
    gc(root, keep=5)
    assert on_shelf(root) == set("abdefgh"), "c was withdrawn, and is the sixth"


def test_what_run_without_dvc_would_take_stays(root: Path) -> None:
    config = config_of(root)
    make_release(config.models / "candidate", TinyModel(7))
    digest = Bundle.load(config.models / "candidate").digest
    with Store(config.state) as store:
        store._db.execute("UPDATE release SET digest = ? WHERE id = 'd'", (digest,))
        assert tidy.kept(store, Shelf(config.models), 1) == set("abdh")


def test_the_list_says_what_is_gone_and_a_rollback_to_it_too(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gc(root, keep=1)
    said = capsys.readouterr().out
    assert [name for name in "abcdefgh" if f"bundle       {name} " in said] == list("cdefg")
    assert "MB freed" in said
    config = config_of(root)
    with Store(config.state, readonly=True) as store:
        assert {one.release.id for one in listed(config, store) if not one.there} == set("cdefg")
    with pytest.raises(SetupError, match="bundle of c is gone"):
        roll_back(config, Console(), "c")


def test_a_dry_run_says_the_same_and_writes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(root)
    tidy.tidy(config_of(root), Console(), 1, with_dvc=False, dry_run=True, as_json=True)
    dry = json.loads(capsys.readouterr().out)
    assert contents(root) == before
    tidy.tidy(config_of(root), Console(), 1, with_dvc=False, dry_run=False, as_json=True)
    wet = json.loads(capsys.readouterr().out)
    assert (dry.pop("dry_run"), wet.pop("dry_run")) == (True, False)
    assert dry == wet
    gone = {name: len(data) for name, data in before.items() if not (root / name).exists()}
    assert wet["bytes"] == sum(gone.values()) > 0
    gc(root, keep=1)
    assert capsys.readouterr().out == "nothing to remove\n"


def test_never_beside_a_run_nor_a_switch(root: Path) -> None:
    holder = f"from pathlib import Path\nfrom plantops import lock\nwith lock.hold(Path({str(root)!r}, '.plantops')):\n"
    child = subprocess.Popen(
        [sys.executable, "-c", holder + " print('held', flush=True)\n input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert child.stdout
        assert child.stdout.readline() == "held\n"
        with pytest.raises(Busy, match=f"pid {child.pid}"):
            gc(root, keep=1)
        assert on_shelf(root) == set("abcdefgh")
        gc(root, keep=1, dry_run=True)
    finally:
        child.communicate("\n")
    gc(root, keep=1)
    assert on_shelf(root) == set("abh")
    assert lock.holder(root / ".plantops") == ""


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from plantops import tidy
from plantops.config import Config, DeployConfig
from plantops.console import Console

def strike(folder, ignore_errors=False):
    if not folder.exists():
        return
    sorted(one for one in folder.iterdir() if one.is_file())[0].unlink()
    os.kill(os.getpid(), signal.SIGKILL)

shutil.rmtree = strike
root = Path(sys.argv[1])
tidy.tidy(Config(root, root / "config.yaml", deploy=DeployConfig("local")), Console(), 1, False, False, False)
"""


def test_a_kill_leaves_whole_releases_or_none(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = {name: contents(root / "models/releases" / name) for name in "abcdefgh"}
    done = sh(sys.executable, "-c", KILLED, root, cwd=root, check=False)
    assert done.returncode == -9
    left = {name for name in on_shelf(root) if not name.startswith(".")}
    assert len(left) == 7
    assert {name: contents(root / "models/releases" / name) for name in left} == {name: whole[name] for name in left}
    gc(root, keep=1)
    assert "left over" in capsys.readouterr().out
    assert on_shelf(root) == set("abh")


def test_what_killed_commands_left_half_made_goes(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for left in ("releases/.i.new", "refused/.20260101.new", "refused/.20260102.gone"):
        (root / "models" / left).mkdir(parents=True)
        (root / "models" / left / "model.onnx").write_bytes(bytes(1000))
    gc(root, keep=8)
    assert capsys.readouterr().out.count("left over") == 3
    assert on_shelf(root) == set("abcdefgh")
    assert list((root / "models/refused").iterdir()) == []


@pytest.mark.ci
def test_the_command(project: Path) -> None:
    assert plantops("gc", cwd=project).stdout == "nothing to remove\n"
    refused = plantops("gc", "--dvc", cwd=project, check=False)
    assert refused.returncode == 2
    assert "no default DVC remote" in refused.stderr
    assert "try: dvc remote add" in refused.stderr


# Old stage outputs


def objects(folder: Path) -> set[str]:
    """The hashes in a cache or remote."""
    return {one.parent.name + one.name for one in (folder / "files/md5").rglob("*") if one.is_file()}


def make(project: Path, number: int) -> set[str]:
    """Run the stage; the objects that are this output's alone."""
    (project / "params.yaml").write_text(f"prepare: {{raw: {RAW}}}\nnumber: {number}\n")
    before = objects(project / ".dvc/cache")
    sh("dvc", "repro", "--quiet", cwd=project)
    return objects(project / ".dvc/cache") - before


def add_class(project: Path, name: str, shade: int) -> Path:
    photo(project / RAW / name / "0___S 0000.jpg", (shade, shade, 7))
    sh("dvc", "add", "--quiet", RAW / name, cwd=project)
    return project / RAW / f"{name}.dvc"


def commit(project: Path, message: str) -> str:
    sh("git", "add", ".", cwd=project)
    sh("git", "commit", "-q", "-m", message, cwd=project)
    return sh("git", "rev-parse", "HEAD", cwd=project).stdout.strip()


@pytest.fixture(scope="module")
def _history(_template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Data and outputs in commits of all kinds, everything pushed but output 4. Also: name -> what to look up."""
    base = tmp_path_factory.mktemp("history")
    project = base / "project"
    shutil.copytree(_template, project, symlinks=True)
    (project / "stage.py").write_text(STAGE)
    (project / "dvc.yaml").write_text(PIPELINE)
    with (project / ".gitignore").open("a") as ignored:
        ignored.write("/out\n")
    sh("dvc", "remote", "add", "-d", "store", base / "remote", cwd=project)
    seen = {}

    def keep(name: str, value: str | set[str]) -> None:
        seen[name] = value if isinstance(value, str) else " ".join(sorted(value))

    keep("out 1", make(project, 1))
    keep("first", commit(project, "Make 1"))
    sh("dvc", "push", "--quiet", cwd=project)

    sh("git", "checkout", "-qb", "side", cwd=project)
    add_class(project, "OnSide", 60)
    keep("out 2", make(project, 2))
    keep("side", commit(project, "Add a class beside"))
    sh("dvc", "push", "--quiet", cwd=project)
    sh("git", "checkout", "-q", "main", cwd=project)

    add_class(project, "Undone", 70)
    keep("undone", commit(project, "Add a class, and think again"))
    sh("dvc", "push", "--quiet", cwd=project)
    sh("git", "reset", "-q", "--hard", "HEAD~1", cwd=project)

    add_class(project, "Stashed", 80)
    sh("dvc", "push", "--quiet", cwd=project)
    sh("git", "add", ".", cwd=project)
    sh("git", "stash", "-q", cwd=project)
    keep("stashed", sh("git", "rev-parse", "stash@{0}", cwd=project).stdout.strip())

    add_class(project, "Changed", 90)
    commit(project, "Add a class that changes")
    keep("before", sh("git", "rev-parse", "HEAD", cwd=project).stdout.strip())
    keep("out 3", make(project, 3))
    sh("dvc", "push", "--quiet", cwd=project)
    sh("git", "checkout", "-q", "dvc.lock", "params.yaml", cwd=project)
    add_class(project, "Changed", 130)
    commit(project, "Change it")
    add_class(project, "Loose", 160)  # never committed
    for name in ("OnSide", "Undone", "Stashed"):  # from here on no output holds their photos
        shutil.rmtree(project / RAW / name)
    keep("out 4", make(project, 4))
    keep("out 5", make(project, 5))
    sh("dvc", "push", "--quiet", cwd=project)
    keep("out 6", make(project, 6))
    sh("dvc", "push", "--quiet", cwd=project)
    return project, seen


@pytest.fixture
def history(_history: tuple[Path, dict[str, str]], tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A copy, with a remote of its own."""
    base, seen = _history
    sh("cp", "-a", base.parent / "project", base.parent / "remote", tmp_path, cwd=tmp_path)
    sh("dvc", "remote", "modify", "store", "url", tmp_path / "remote", cwd=tmp_path / "project")
    return tmp_path / "project", seen


def of(seen: dict[str, str], *numbers: int) -> set[str]:
    return {one for number in numbers for one in seen[f"out {number}"].split()}


@pytest.mark.ci
def test_pushed_old_outputs_go_and_nothing_else(
    history: tuple[Path, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    project, seen = history
    place, remote = project / ".dvc/cache", project.parent / "remote"
    before, elsewhere = objects(place), objects(remote)
    assert before - elsewhere == of(seen, 4), "all but output 4 is in the remote"
    gc(project, with_dvc=True, dry_run=True)
    assert objects(place) == before
    dry = capsys.readouterr().out
    gc(project, with_dvc=True)
    wet = capsys.readouterr().out
    # Each output holds the photos of its time, which belong to the data, and a file that all have.
    gone = of(seen, 2, 3, 5) | _listing_and_number(remote, seen)
    assert before - objects(place) == gone
    assert len(gone) == 8
    assert [line for line in dry.splitlines() if "stage output" in line] == wet.splitlines()[:-1]
    assert objects(remote) == elsewhere
    assert (project / "out/number.txt").read_text() == "number 6"
    gc(project, with_dvc=True)
    assert capsys.readouterr().out == "nothing to remove\n"


def _listing_and_number(remote: Path, seen: dict[str, str]) -> set[str]:
    """Of output 1, the first, what no later one has: its list of files, and the number."""
    (listing,) = (one for one in of(seen, 1) if one.endswith(".dir"))
    files = json.loads((remote / "files/md5" / listing[:2] / listing[2:]).read_text())
    return {listing, *(one["md5"] for one in files if one["relpath"] == "number.txt")}


@pytest.mark.ci
def test_the_data_of_every_dvc_file_in_every_commit_stays(history: tuple[Path, dict[str, str]]) -> None:
    project, seen = history
    loose = (project / RAW / "Loose.dvc").read_text()
    gc(project, with_dvc=True)
    (project.parent / "remote").rename(project.parent / "away")
    sh("git", "stash", "-q", "-u", cwd=project)
    expected = {"first": 0, "side": 60, "undone": 70, "stashed": 80, "before": 90, "main": 130}
    for rev, shade in expected.items():
        sh("git", "checkout", "-qf", seen.get(rev, rev), cwd=project)
        shutil.rmtree(project / RAW)
        sh("git", "checkout", "-q", ".", cwd=project)
        named = sorted((project / RAW).glob("*.dvc"))
        sh("dvc", "checkout", "--quiet", *named, cwd=project)
        assert all(list((project / RAW / one.stem).iterdir()) for one in named)
        if shade:
            photo(project.parent / "expected.jpg", (shade, shade, 7))
            there = [one.read_bytes() for one in (project / RAW).rglob("0___S 0000.jpg")]
            assert (project.parent / "expected.jpg").read_bytes() in there, rev
    (project / RAW / "Loose.dvc").write_text(loose)
    sh("dvc", "checkout", "--quiet", RAW / "Loose.dvc", cwd=project)


@pytest.mark.ci
def test_what_went_comes_back_from_the_remote_or_is_made_again(history: tuple[Path, dict[str, str]]) -> None:
    project, seen = history
    gc(project, with_dvc=True)
    # DVC's record of the run has lost its output: the stage runs again, although nothing can be fetched.
    (project.parent / "remote").rename(project.parent / "away")
    make(project, 3)
    assert (project / "out/number.txt").read_text() == "number 3"
    make(project, 4)  # never pushed, never gone
    (project.parent / "away").rename(project.parent / "remote")
    sh("git", "checkout", "-qf", seen["first"], cwd=project)
    sh("dvc", "pull", "--quiet", cwd=project)
    assert (project / "out/number.txt").read_text() == "number 1"


@pytest.mark.ci
def test_what_the_remote_has_in_part_stays_whole(history: tuple[Path, dict[str, str]]) -> None:
    project, seen = history
    remote = project.parent / "remote/files/md5"
    (cut,) = (one for one in of(seen, 3) if not one.endswith(".dir"))
    (remote / cut[:2] / cut[2:]).chmod(0o644)
    (remote / cut[:2] / cut[2:]).write_text("numb")  # an upload cut short
    (lost,) = (one for one in of(seen, 2) if not one.endswith(".dir"))
    (remote / lost[:2] / lost[2:]).unlink()
    before = objects(project / ".dvc/cache")
    gc(project, with_dvc=True)
    gone = of(seen, 5) | _listing_and_number(project.parent / "remote", seen)
    assert before - objects(project / ".dvc/cache") == gone


@pytest.mark.ci
@pytest.mark.parametrize("fault", ["shallow", "the cache itself", "no folder", "a cache of others", "a list lost"])
def test_where_nothing_can_be_proven_nothing_goes(history: tuple[Path, dict[str, str]], fault: str) -> None:
    project, seen = history
    remote = project.parent / "remote"
    said, place = "", project / ".dvc/cache"
    if fault == "shallow":
        (project / ".git/shallow").write_text(seen["before"] + "\n")
        said = "shallow clone"
    elif fault == "the cache itself":
        (project.parent / "alias").symlink_to(place)
        sh("dvc", "remote", "modify", "store", "url", project.parent / "alias", cwd=project)
        said = "remote is the cache itself"
    elif fault == "no folder":
        shutil.rmtree(remote)
    elif fault == "a cache of others":
        place = project.parent / "cache"
        (project / ".dvc/cache").rename(place)
        sh("dvc", "cache", "dir", place, cwd=project)
        said = "others may use it"
    else:
        (listing,) = (one for one in cache.hashes((project / RAW / "Loose.dvc").read_text()) if one.endswith(".dir"))
        for folder in (place, remote):
            (folder / "files/md5" / listing[:2] / listing[2:]).unlink()
        said = listing
    before = objects(place)
    if said:
        with pytest.raises(SetupError, match=said):
            gc(project, with_dvc=True)
    else:
        gc(project, with_dvc=True)
    assert objects(place) == before


@pytest.mark.ci
def test_not_while_dvc_works(history: tuple[Path, dict[str, str]]) -> None:
    project, _ = history
    holder = "from dvc.repo import Repo\nwith Repo('.').lock:\n print('held', flush=True)\n input()"
    child = subprocess.Popen(
        [sys.executable, "-c", holder], cwd=project, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout
        assert child.stdout.readline() == "held\n"
        with pytest.raises(Busy, match="another DVC command"):
            gc(project, with_dvc=True)
    finally:
        child.communicate("\n")


def test_every_version_in_every_commit_is_found(tmp_path: Path) -> None:
    """Also in a branch merged away, in the merge itself, after a deletion, and where git takes the files as binary."""

    def write(text: str, name: str = "sub/x.dvc") -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def record(*more: str) -> None:
        sh("git", "add", "-A", cwd=tmp_path)
        sh("git", "commit", "-q", "--allow-empty", "-m", "x", *more, cwd=tmp_path)

    sh("git", "init", "-q", cwd=tmp_path)
    write("*.dvc binary\n", ".gitattributes")
    write("one\nsame\n")
    record()
    sh("git", "checkout", "-qb", "side", cwd=tmp_path)
    write("two\nsame\n")
    record()
    sh("git", "checkout", "-q", "-", cwd=tmp_path)
    write("three\nsame\n", "other.dvc")
    record()
    sh("git", "merge", "-q", "-s", "ours", "-m", "away", "side", cwd=tmp_path)
    sh("git", "branch", "-D", "side", cwd=tmp_path)
    write("merged by hand\n")
    record("--amend")
    (tmp_path / "sub/x.dvc").unlink()
    record()
    write("staged", "staged.dvc")
    sh("git", "add", ".", cwd=tmp_path)
    write("not this one", "x.txt")
    found = git.versions(tmp_path, "*.dvc")
    assert found - {""} == {"one\nsame", "two\nsame", "three\nsame", "merged by hand", "staged"}
    (tmp_path / "deep").mkdir()
    assert git.versions(tmp_path / "deep", "*.dvc") == found
    assert [one.name for one in git.files(tmp_path, "*.dvc")] == ["other.dvc", "staged.dvc"]
