"""The branch and its remote: real git, a bare repository, a colleague's clone."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bundle_factory import TinyModel, make_bundle
from conftest import sh
from plantops import branch, git, recall
from plantops.branch import Branch
from plantops.bundle import Bundle
from plantops.config import Config, FollowConfig, WatchConfig
from plantops.errors import StepFailed
from plantops.follow import Follower
from plantops.shelf import Shelf
from plantops.store import FILE

pytestmark = pytest.mark.ci

OWN = "Release x\n\nPlantops-Run: 20260101-000000-abcd"


@dataclass
class Team:
    """``here`` is ours, ``there`` the colleague's."""

    here: Path
    there: Path
    written: dict[Path, str]

    @property
    def branch(self) -> Branch:
        return branch.checked_out(self.here, "origin", "main")

    def theirs(self, message: str, **files: str) -> None:
        """The colleague writes, commits and pushes."""
        commit(self.there, message, **files)
        sh("git", "push", "-q", cwd=self.there)

    def plantops_writes(self, name: str, text: str) -> Path:
        path = self.here / name
        path.write_text(text)
        self.written[path] = hashlib.md5(text.encode()).hexdigest()
        return path

    def mine(self, path: Path) -> bool:
        return path.is_file() and hashlib.md5(path.read_bytes()).hexdigest() == self.written.get(path)

    def take(self, signed: bool = False) -> str:
        branch.fetch(self.branch)
        return branch.unite(self.branch, self.mine, signed, self.here / ".git" / "scratch")


def commit(folder: Path, message: str, **files: str) -> str:
    for name, text in files.items():
        (folder / name).write_text(text)
        sh("git", "add", name, cwd=folder)
    sh("git", "commit", "-q", "-m", message, cwd=folder)
    return head(folder)


def head(folder: Path) -> str:
    return sh("git", "rev-parse", "HEAD", cwd=folder).stdout.strip()


def status(folder: Path) -> list[str]:
    return sh("git", "status", "--porcelain", cwd=folder).stdout.splitlines()


@pytest.fixture
def team(tmp_path: Path) -> Team:
    sh("git", "init", "-q", "--bare", tmp_path / "origin", cwd=tmp_path)
    for name in ("here", "there"):
        sh("git", "clone", "-q", tmp_path / "origin", tmp_path / name, cwd=tmp_path)
    here, there = tmp_path / "here", tmp_path / "there"
    commit(here, "Start", lock="lock 0\n", code="code 0\n")
    sh("git", "push", "-q", "-u", "origin", "main", cwd=here)
    sh("git", "pull", "-q", "origin", "main", cwd=there)
    sh("git", "branch", "-q", "-u", "origin/main", cwd=there)
    return Team(here, there, {})


def refused(team: Team, **how: bool) -> StepFailed:
    """Taking up is refused, and nothing whatever has changed."""
    before = head(team.here), status(team.here), snapshot(team.here)
    with pytest.raises(StepFailed) as failed:
        team.take(**how)
    assert (head(team.here), status(team.here), snapshot(team.here)) == before
    assert sh("git", "worktree", "list", cwd=team.here).stdout.count("\n") == 1
    return failed.value


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_goes_forward_and_says_what_came(team: Team) -> None:
    assert team.take() == ""
    team.theirs("Add rust", rust="1")
    assert team.take() == "took up 1 commit of origin/main: Add rust (Tester)"
    assert head(team.here) == head(team.there)
    assert (team.here / "rust").read_text() == "1"
    assert team.take() == ""


def test_what_plantops_wrote_makes_way_where_it_must(team: Team) -> None:
    """A changed file, a new one, and one that was staged; what the commits do not touch stays as it is."""
    team.plantops_writes("lock", "lock of our run\n")
    team.plantops_writes("new.dvc", "ours\n")
    team.plantops_writes("staged.dvc", "ours\n")
    sh("git", "add", "staged.dvc", cwd=team.here)
    code = team.plantops_writes("code", "code of our run\n")
    team.theirs("Run", lock="lock of their run\n", **{"new.dvc": "theirs\n", "staged.dvc": "theirs\n"})
    assert team.take()
    assert (team.here / "lock").read_text() == "lock of their run\n"
    assert (team.here / "new.dvc").read_text() == (team.here / "staged.dvc").read_text() == "theirs\n"
    assert code.read_text() == "code of our run\n"
    assert status(team.here) == [" M code"]


@pytest.mark.parametrize("staged", [False, True])
def test_local_work_is_never_touched(team: Team, staged: bool) -> None:
    """Neither a file that the commits change nor another one; nor one that plantops wrote and somebody edited."""
    team.theirs("Run", lock="theirs\n")
    team.plantops_writes("lock", "ours\n")
    (team.here / "lock").write_text("edited\n")
    (team.here / "code").write_text("edited\n")
    if staged:
        sh("git", "add", "code", cwd=team.here)
    error = refused(team)
    assert "changed here and not committed: code, lock" in error.message
    sh("git", "checkout", "-q", "HEAD", "--", "code", cwd=team.here)
    assert "changed here and not committed: lock" in refused(team).message


def test_a_file_in_the_way_that_nobody_committed(team: Team) -> None:
    (team.here / "NewClass.dvc").write_text("ours")
    (team.here / ".git/info/exclude").write_text("ignored\n")
    (team.here / "ignored").write_text("ours")
    team.theirs("Add", **{"NewClass.dvc": "theirs"})
    assert "they bring NewClass.dvc, which is here, too" in refused(team).message
    (team.here / "NewClass.dvc").unlink()
    team.theirs("Add", ignored="theirs")
    assert "they bring ignored, which is here, too" in refused(team).message


def test_own_commits_do_not_stop_the_next_fast_forward(team: Team) -> None:
    commit(team.here, OWN, lock="lock 1\n")
    commit(team.here, OWN, lock="lock 2\n")
    team.plantops_writes("code", "code of our run\n")
    team.theirs("Add rust", rust="1")
    assert "Add rust" in team.take()
    log = sh("git", "log", "--format=%s", cwd=team.here).stdout.splitlines()
    assert log == ["Release x", "Release x", "Add rust", "Start"]
    assert (team.here / "lock").read_text() == "lock 2\n"
    assert status(team.here) == [" M code"]
    assert sh("git", "worktree", "list", cwd=team.here).stdout.count("\n") == 1


def test_commits_of_the_users_own_are_not_moved(team: Team) -> None:
    commit(team.here, OWN, lock="lock 1\n")
    mine = commit(team.here, "My work", work="1")
    team.theirs("Add rust", rust="1")
    error = refused(team)
    assert "went different ways" in error.message
    assert mine[:7] in error.message
    assert error.hint == "git pull --rebase origin main"


def test_a_conflict_leaves_everything_as_it_was(team: Team) -> None:
    commit(team.here, OWN, lock="ours\n")
    team.theirs("Run", lock="theirs\n")
    error = refused(team)
    assert "change the same lines" in error.message
    assert error.hint == "git pull --rebase origin main"
    assert refused(team)


def test_what_an_earlier_kill_left_is_cleared_away(team: Team) -> None:
    sh("git", "worktree", "add", "-q", "--detach", ".git/scratch", cwd=team.here)
    commit(team.here, OWN, lock="lock 1\n")
    team.theirs("Add rust", rust="1")
    assert team.take()


def test_only_signed_commits_where_that_is_asked_for(team: Team, tmp_path: Path) -> None:
    for name in ("ours", "strangers"):
        sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name, cwd=tmp_path)
    (tmp_path / "allowed").write_text("tester@localhost " + (tmp_path / "ours.pub").read_text())
    sh("git", "config", "gpg.ssh.allowedSignersFile", tmp_path / "allowed", cwd=team.here)
    for key, value in (("gpg.format", "ssh"), ("user.signingKey", tmp_path / "ours"), ("commit.gpgSign", "true")):
        sh("git", "config", key, value, cwd=team.there)
    team.theirs("Signed", rust="1")
    assert "Signed" in team.take(signed=True)
    sh("git", "config", "user.signingKey", tmp_path / "strangers", cwd=team.there)
    team.theirs("By a stranger", rust="2")
    error = refused(team, signed=True)
    assert "does not verify a signature" in error.message
    assert error.hint.startswith("git verify-commit")
    sh("git", "config", "user.signingKey", tmp_path / "ours", cwd=team.there)
    team.theirs("Signed, on top of it", rust="3")
    assert refused(team, signed=True)
    assert team.take(signed=False)


def test_another_branch_than_the_configured_one(team: Team) -> None:
    sh("git", "switch", "-q", "-c", "mine", cwd=team.here)
    with pytest.raises(StepFailed, match="mine is checked out, not main"):
        assert team.branch
    sh("git", "switch", "-q", "--detach", cwd=team.here)
    with pytest.raises(StepFailed, match="no branch is checked out"):
        assert team.branch


# --- commits ---


def test_a_commit_of_a_path_list_leaves_the_index_alone(team: Team) -> None:
    here = team.here
    commit(here, "Ignore", **{".gitignore": "ignored.dvc\n"})
    for name in ("lock", "code", "new.dvc", "ignored.dvc", "work", "[a]*.dvc"):
        (here / name).write_text("changed\n")
    sh("git", "add", "code", "work", cwd=here)
    names = ("lock", "new.dvc", "ignored.dvc", "away", "[a]*.dvc")
    made = branch.commit(here, [here / name for name in names], OWN)
    assert head(here).startswith(made)
    listed = sh("git", "show", "--format=", "--name-only", cwd=here).stdout.splitlines()
    assert listed == ["[a]*.dvc", "lock", "new.dvc"]
    assert status(here) == ["M  code", "A  work"]
    assert branch.commit(here, [here / "lock"], OWN) == ""


def test_a_commit_that_a_hook_refuses_leaves_the_index_alone(team: Team) -> None:
    hook = team.here / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\necho not today >&2; exit 1\n")
    hook.chmod(0o755)
    (team.here / "new.dvc").write_text("new\n")
    with pytest.raises(StepFailed, match="not today"):
        branch.commit(team.here, [team.here / "new.dvc"], OWN)
    assert status(team.here) == ["?? new.dvc"]


def test_without_a_name_for_git_plantops_signs_with_its_own(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    sh("git", "config", "user.useConfigOnly", "true", cwd=team.here)
    (team.here / "lock").write_text("1\n")
    assert branch.commit(team.here, [team.here / "lock"], OWN)
    author = sh("git", "log", "-1", "--format=%an <%ae>", cwd=team.here).stdout.strip()
    assert author == "plantops <plantops@localhost>"
    assert git.state(team.here).diff == ""


# --- the watch's part ---


@pytest.fixture
def config(team: Team) -> Config:
    (team.here / ".git/info/exclude").write_text(".plantops/\n")
    return Config(team.here, team.here / "config.yaml", watch=WatchConfig(git=FollowConfig(remote="origin")))


def look(follower: Follower, config: Config) -> list[str]:
    return follower.look(config, 0)


def test_nothing_is_fetched_unless_asked_for(team: Team) -> None:
    team.theirs("Add rust", rust="1")
    assert Follower().look(Config(team.here, team.here / "config.yaml"), 0) == []
    assert not (team.here / "rust").exists()


def test_a_remote_that_is_away_is_told_once(team: Team, config: Config) -> None:
    follower = Follower()
    assert look(follower, config) == []
    origin = team.here.parent / "origin"
    origin.rename(origin.with_name("away"))
    (said,) = look(follower, config)
    assert "git fetch origin failed" in said
    assert look(follower, config) == []
    origin.with_name("away").rename(origin)
    team.theirs("Add rust", rust="1")
    (said,) = look(follower, config)
    assert said.startswith("took up 1 commit")


def test_local_work_is_told_once_and_waited_for(team: Team, config: Config) -> None:
    follower = Follower()
    team.theirs("Add rust", rust="1")
    (team.here / "code").write_text("edited")
    (said,) = look(follower, config)
    assert "changed here and not committed: code" in said
    assert look(follower, config) == []
    assert follower.waits == said, "what the heartbeat tells for as long as it is so"
    sh("git", "checkout", "-q", "code", cwd=team.here)
    (said,) = look(follower, config)
    assert said.startswith("took up 1 commit")
    assert not follower.waits


def test_while_a_run_is_going_nothing_moves(team: Team, config: Config) -> None:
    from plantops import lock

    team.theirs("Add rust", rust="1")
    with lock.hold(config.state):
        taken: list[list[str]] = []
        thread = threading.Thread(target=lambda: taken.append(look(Follower(), config)))
        thread.start()
        thread.join()
    assert taken == [[]]
    assert not (team.here / "rust").exists()


def test_a_lost_memory_is_left_for_the_run_that_mends_it(team: Team, config: Config) -> None:
    folder = make_bundle(Shelf(config.models).release("1111111-a"), TinyModel(0))
    facts = {"release": "1111111-a", "digest": Bundle.load(folder).digest, "created": "2026-01-01T00:00:00+00:00"}
    facts |= {"run": "r", "sample_data": True, "fingerprint": "f", "serving_code": "c", "mlflow": {"run": "m"}}
    (folder / "release.json").write_text(json.dumps(facts))
    (folder / "lineage.json").write_text(json.dumps({"inputs": {}}))
    assert recall.lost(config) == "is gone"
    team.theirs("Add rust", rust="1")
    (said,) = look(Follower(), config)
    assert said.startswith("took up 1 commit")
    assert not (config.state / FILE).exists()


def test_a_remote_that_asks_for_a_password_gets_none(team: Team, config: Config, serve: Callable[[int], str]) -> None:
    sh("git", "remote", "set-url", "origin", serve(401), cwd=team.here)
    (said,) = look(Follower(), config)
    assert "terminal prompts disabled" in said


def test_a_remote_that_never_answers_holds_nothing_up(team: Team, config: Config, serve: Callable[[int], str]) -> None:
    sh("git", "remote", "set-url", "origin", serve(0), cwd=team.here)
    follower = Follower(patience_s=0.2)
    assert look(follower, config) == []
    assert look(follower, config) == [], "it is still being waited for, and no second time"


@pytest.fixture
def serve() -> Callable[[int], str]:
    """A web server that answers every request with one status, or (0) never; its address."""
    import http.server

    servers = []
    ended = threading.Event()

    def start(code: int) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if code == 0:
                    ended.wait(30)
                    return
                self.send_response(code)
                self.send_header("WWW-Authenticate", 'Basic realm="x"')
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/x.git"

    yield start
    ended.set()
    for server in servers:
        server.shutdown()
