"""What teammates have and this machine lacks: real git, real DVC, a folder and an S3 server as remotes."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import s3 as s3_server
from conftest import photo, plantops, sh
from plantops import bring, pipeline, remote, share
from plantops.config import load
from plantops.console import Console
from plantops.errors import SetupError, StepFailed
from plantops.store import RELEASED, Store

pytestmark = pytest.mark.ci
RAW = Path("data/raw/PlantVillage")
LATE, PEPPER = "Potato___Late_blight", "Pepper,_bell___healthy"


@pytest.fixture(scope="module")
def _two(_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("two")
    here, other = base / "here", base / "other"
    sh("cp", "-a", _template, here, cwd=base)
    sh("dvc", "remote", "add", "-d", "store", "../remote", cwd=here)
    sh("git", "commit", "-qam", "Work together", cwd=here)
    sh("dvc", "push", cwd=here)
    sh("git", "clone", "-q", here, other, cwd=base)
    sh("dvc", "pull", *other.glob(f"{RAW}/*.dvc"), cwd=other)
    return base


@pytest.fixture
def team(_two: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Our project with a folder as DVC remote, all of it pushed, and a colleague's clone with the photos."""
    for one in _two.iterdir():
        sh("cp", "-a", one, tmp_path / one.name, cwd=tmp_path)
    return tmp_path / "here", tmp_path / "other"


def brought(folder: Path) -> list[str]:
    """The work, as a run does it; what is still not as DVC knows it, in words."""
    config = load(folder)
    with Store(config.state) as store:
        return [one.what for one in bring.photos(config, store, Console())]


def changes(other: Path, name: str, push: bool = True) -> None:
    """The colleague adds one photo to a class and commits."""
    photo(other / RAW / name / "late.jpg", (250, 5, 5))
    sh("dvc", "add", "--quiet", RAW / name, cwd=other)
    sh("git", "add", RAW / f"{name}.dvc", cwd=other)
    sh("git", "commit", "-qm", f"More {name}", cwd=other)
    if push:
        sh("dvc", "push", cwd=other)


def pull(folder: Path, other: Path) -> None:
    sh("git", "pull", "-q", "--ff-only", other, "HEAD", cwd=folder)


def names(folder: Path, name: str) -> list[str]:
    return sorted(path.name for path in (folder / RAW / name).iterdir())


def test_photos_that_are_away_come_from_the_cache_without_a_remote_and_else_from_the_remote(
    team: tuple[Path, Path], tmp_path: Path
) -> None:
    here, _ = team
    before = names(here, LATE)
    (tmp_path / "remote").rename(tmp_path / "away")
    shutil.rmtree(here / RAW / LATE)
    assert brought(here) == []
    assert names(here, LATE) == before
    (tmp_path / "away").rename(tmp_path / "remote")
    shutil.rmtree(here / RAW / LATE)
    shutil.rmtree(here / ".dvc/cache")
    assert brought(here) == []
    assert names(here, LATE) == before


def test_a_class_that_others_changed_takes_the_place_of_a_state_that_dvc_knows(team: tuple[Path, Path]) -> None:
    here, other = team
    changes(other, LATE)
    pull(here, other)
    assert brought(here) == []
    assert "late.jpg" in names(here, LATE)
    sh("git", "checkout", "-q", "HEAD~1", cwd=here)
    assert brought(here) == []
    assert "late.jpg" not in names(here, LATE)


def test_photos_of_ones_own_are_never_touched(team: tuple[Path, Path]) -> None:
    """Neither where others changed the class, nor where they did not; and theirs are not dropped by a `dvc add`."""
    here, other = team
    changes(other, LATE)
    photo(here / RAW / LATE / "mine.jpg", (1, 2, 3))
    photo(here / RAW / PEPPER / "mine.jpg", (1, 2, 3))
    pull(here, other)
    said = brought(here)
    assert re.search("3 → 4 photos since its dvc add", said[0])
    assert "other photos came" in said[1]
    assert "mine.jpg" in names(here, LATE)
    assert "mine.jpg" in names(here, PEPPER)
    (here / "config.yaml").write_text("data: {untracked: add}\ndeploy: {backend: local}\n")
    config = load(here)
    with Store(config.state) as store, pytest.raises(SetupError, match="other photos came"):
        pipeline.check_loose(config, bring.photos(config, store, Console()))
    assert sh("git", "status", "--porcelain", "*.dvc", cwd=here).stdout == ""


def test_a_dvc_file_of_a_repro_while_photos_came_is_nobody_elses(team: tuple[Path, Path]) -> None:
    """DVC hashes a folder, then once more, and keeps the second state alone: its `.dvc` names what is nowhere."""
    here, _ = team
    pointer = here / RAW / f"{LATE}.dvc"
    photo(here / RAW / LATE / "mine.jpg", (1, 2, 3))
    text = pointer.read_text()
    pointer.write_text(re.sub("md5: [0-9a-f]{32}", f"md5: {'0' * 32}", text))
    (said,) = brought(here)
    assert "3 → 4 photos since its dvc add" in said
    sh("git", "commit", "-qam", "As a colleague's commit brings it", cwd=here)
    assert "other photos came" in brought(here)[0]


def test_a_cache_that_lost_a_photo_makes_local_work_of_it(team: tuple[Path, Path]) -> None:
    """The list of the folder's photos alone does not bring one back."""
    here, other = team
    changes(other, LATE)
    pull(here, other)
    kept = here / RAW / LATE / names(here, LATE)[0]
    md5 = sh("md5sum", kept, cwd=here).stdout.split()[0]
    cached = here / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    cached.chmod(0o644)
    cached.unlink()
    assert "other photos came" in brought(here)[0]
    assert kept.exists()


def test_what_is_in_no_remote_is_an_error_before_anything_is_touched(team: tuple[Path, Path]) -> None:
    here, other = team
    changes(other, LATE, push=False)
    pull(here, other)
    before = names(here, LATE)
    failed = plantops("run", cwd=here, check=False)
    assert failed.returncode == 2
    assert f"not in the DVC remote store ({here.parent / 'remote'}) either" in failed.stderr
    assert f"{LATE}.dvc" in failed.stderr
    assert "dvc push" in failed.stderr
    assert names(here, LATE) == before
    text = (here / "config.yaml").read_text()
    (here / "config.yaml").write_text(text.replace("pull: true", "pull: false"))
    assert "dvc.pull: false" in plantops("run", cwd=here, check=False).stderr


def test_a_class_that_a_commit_took_away_goes_and_one_that_somebody_removed_by_hand_stays(
    team: tuple[Path, Path],
) -> None:
    here, other = team
    settle(here)
    (here / RAW / f"{PEPPER}.dvc").unlink()
    assert "not under DVC" in brought(here)[0], "no commit says that it is gone"
    sh("git", "checkout", "-q", ".", cwd=here)
    sh("git", "rm", "-q", RAW / f"{LATE}.dvc", cwd=other)
    sh("git", "commit", "-qm", "Take it away", cwd=other)
    pull(here, other)
    photo(here / RAW / LATE / "mine.jpg", (1, 2, 3))
    assert "not under DVC" in brought(here)[0], "photos of one's own are in it"
    (here / RAW / LATE / "mine.jpg").unlink()
    assert brought(here) == []
    assert not (here / RAW / LATE).exists()
    sh("git", "checkout", "-q", "HEAD~1", cwd=here)
    assert brought(here) == []
    assert len(names(here, LATE)) == 3


def settle(folder: Path) -> None:
    """As if a run had settled what is here."""
    from plantops import dvc

    with Store(load(folder).state) as store:
        run = store.begin("test", {}, "", dvc.inputs(folder))
        store.finish(run, RELEASED, left_behind=dvc.inputs(folder))


def test_other_files_under_dvc_follow_their_dvc_files(team: tuple[Path, Path]) -> None:
    here, other = team
    for folder, text in ((other, "one"), (other, "two")):
        (folder / "groups.csv").write_text(text)
        sh("dvc", "add", "--quiet", "groups.csv", cwd=folder)
        sh("git", "add", "groups.csv.dvc", ".gitignore", cwd=folder)
        sh("git", "commit", "-qm", text, cwd=folder)
        sh("dvc", "push", cwd=folder)
        pull(here, other)
        assert brought(here) == []
        assert (here / "groups.csv").read_text() == text
        settle(here)
    (other / "groups.csv").write_text("three")
    sh("dvc", "add", "--quiet", "groups.csv", cwd=other)
    sh("git", "commit", "-qam", "three", cwd=other)
    sh("dvc", "push", cwd=other)
    (here / "groups.csv").unlink()
    (here / "groups.csv").write_text("mine")
    pull(here, other)
    with pytest.raises(SetupError, match="`dvc checkout` failed"):
        brought(here)
    assert (here / "groups.csv").read_text() == "mine"


def test_what_could_not_be_sent_is_said_and_sent_after_the_next_run(
    team: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    here, _ = team
    settle(here)
    (here / "config.yaml").write_text("dvc: {push: true}\n")

    def shared() -> str:
        with Store(here / ".plantops") as store:
            share.share(load(here), store, Console())
        return capsys.readouterr().out

    photo(here / RAW / LATE / "late.jpg", (250, 5, 5))
    sh("dvc", "add", "--quiet", RAW / LATE, cwd=here)
    sh("dvc", "remote", "modify", "store", "url", "/proc/nowhere", cwd=here)
    assert "not shared yet" in shared()
    assert "not shared yet" in shared()
    sh("dvc", "remote", "modify", "store", "url", here.parent / "remote", cwd=here)
    assert "in the DVC remote store" in shared()
    assert shared() == ""
    assert "up to date" in sh("dvc", "push", RAW / f"{LATE}.dvc", cwd=here).stdout


# --- a server that speaks S3 ---


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], str]]:
    """Starts an S3 server with a bucket; one that is ``strict`` knows no key. Returns its address."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with ExitStack() as servers:

        def start(strict: bool) -> str:
            address = servers.enter_context(s3_server.running(tmp_path, 1 if strict else None))
            s3_server.client("s3", address, "k", "s").create_bucket(Bucket="photos")
            return address

        yield start


def use_s3(folder: Path, address: str, url: str = "s3://photos/team", key: str = "k") -> None:
    sh("dvc", "remote", "add", "-d", "-f", "s3", url, cwd=folder)
    sh("dvc", "remote", "modify", "s3", "endpointurl", address, cwd=folder)
    if key:
        sh("dvc", "remote", "modify", "--local", "s3", "access_key_id", key, cwd=folder)
        sh("dvc", "remote", "modify", "--local", "s3", "secret_access_key", "s", cwd=folder)


def doctor(folder: Path) -> str:
    said = plantops("doctor", cwd=folder, check=False).stdout
    return " ".join(said.split())


def test_photos_come_from_s3(project: Path, tmp_path: Path, s3: Callable[[bool], str]) -> None:
    address = s3(False)
    use_s3(project, address)
    sh("git", "commit", "-qam", "S3", cwd=project)
    sh("dvc", "push", cwd=project)
    other = tmp_path / "other"
    sh("git", "clone", "-q", project, other, cwd=tmp_path)
    use_s3(other, address)
    assert brought(other) == []
    assert len(names(other, LATE)) == 3
    assert "a small file was written, read and removed" in doctor(other)
    listed = sh("dvc", "push", cwd=other).stdout
    assert "up to date" in listed


def test_credentials_that_are_refused_or_missing_are_explained(project: Path, s3: Callable[[bool], str]) -> None:
    address = s3(True)
    use_s3(project, address)
    assert "it refuses the credentials that are used here" in doctor(project)
    shutil.rmtree(project / RAW / LATE)
    shutil.rmtree(project / ".dvc/cache")
    failed = plantops("run", cwd=project, check=False)
    assert failed.returncode == 2
    assert "the DVC remote s3 (s3://photos/team): it refuses the credentials that are used here" in failed.stderr
    assert "dvc remote modify --local s3" in failed.stderr
    (project / ".dvc/config.local").unlink()
    assert "there are no credentials for it here" in doctor(project)


def test_a_kind_of_remote_that_is_not_installed_names_the_package(project: Path) -> None:
    sh("dvc", "remote", "add", "-d", "far", "gs://photos/team", cwd=project)
    with pytest.raises(StepFailed) as failed:
        remote.push(project, lambda line: None)
    assert "is not installed" in failed.value.message
    assert failed.value.hint == "pip install 'plantops[gs]'"
    assert "pip install 'plantops[gs]'" in doctor(project)


def test_a_remote_that_is_away_is_said_to_be(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    use_s3(project, "http://127.0.0.1:9")
    assert "it does not answer" in doctor(project)
