"""The branch checked out, and the same branch at a remote: fetched without a prompt, united, committed to, pushed.

All of it leaves the user's work alone: files that are changed and not committed, the index, commits of their own.
Only files that hold exactly what plantops wrote may be replaced, and only commits that plantops made are moved.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from plantops import process
from plantops.errors import StepFailed

TRAILER = "Plantops-Run"
SCRATCH = "rebase"  # the folder, in plantops' own, in which commits are moved
_NETWORK_S = 60.0
_SSH = " -oBatchMode=yes -oConnectTimeout=15 -oServerAliveInterval=15"
# Hooks of the user's are for the user's own folder, not for the scratch one in which commits are moved.
_NO_HOOKS = ("-c", "core.hooksPath=/dev/null")
# What git adds for somebody at a keyboard.
_ADVICE = re.compile(r"hint:|To |Please make sure|and the repository exists")
IsMine = Callable[[Path], bool]


@dataclass(frozen=True)
class Branch:
    """A branch that is checked out in the repository at ``top``, and the remote that has it, too."""

    top: Path
    name: str
    remote: str

    @property
    def theirs(self) -> str:
        """The remote's branch, as it was fetched."""
        return f"refs/remotes/{self.remote}/{self.name}"

    def __str__(self) -> str:
        return f"{self.remote}/{self.name}"


def checked_out(root: Path, remote: str, name: str = "") -> Branch:
    """The branch that is checked out; it must be ``name`` where one is given. Raises StepFailed."""
    here = name_of(root)
    if name and here != name:
        raise StepFailed(f"{here} is checked out, not {name}", f"git switch {name}")
    top = _must(root, "rev-parse", "--show-toplevel").strip()
    return Branch(Path(top), here, remote or default_remote(root, here))


def name_of(root: Path) -> str:
    """The branch that is checked out. Raises StepFailed when none is."""
    name = _git(root, "symbolic-ref", "--short", "-q", "HEAD").out.strip()
    if not name:
        raise StepFailed("no branch is checked out in git", "git switch main")
    return name


def default_remote(root: Path, name: str) -> str:
    """The remote that a branch is pushed to: the one git has for it, or the only one. Raises StepFailed."""
    configured = _git(root, "config", f"branch.{name}.remote").out.strip()
    remotes = _git(root, "remote").out.split()
    if configured or len(remotes) == 1 or "origin" in remotes:
        return configured or ("origin" if "origin" in remotes else remotes[0])
    raise StepFailed(f"git has no remote for {name}", f"git push -u REMOTE {name}")


def fetch(branch: Branch) -> None:
    """Learn what the remote's branch is now. Raises StepFailed with git's words; never asks for anything."""
    spec = f"+refs/heads/{branch.name}:{branch.theirs}"
    _over_network(branch, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--", branch.remote, spec)


def push(branch: Branch) -> None:
    """Send the branch. Raises StepFailed when the remote has commits that are not here, or refuses."""
    _over_network(branch, "push", "--quiet", "--", branch.remote, f"HEAD:refs/heads/{branch.name}")


def unite(branch: Branch, mine: IsMine, signed: bool, scratch: Path) -> str:
    """Bring the commits that were fetched into the branch and the folder; returns what came, in words, or nothing.

    Forward where nothing else was committed here; else plantops' own commits are moved on top of theirs, in the
    folder ``scratch``. ``mine``: whether a file holds exactly what plantops wrote. ``signed``: refuse commits whose
    signature git does not verify. Raises StepFailed, everything as it was, where that is not to be.
    """
    came = _lines(branch, "rev-list", f"HEAD..{branch.theirs}", "--") if _sha(branch, branch.theirs) else []
    if not came:
        return ""
    if signed:
        _check_signed(branch, came)
    own = _own_commits(branch)
    _check_folder(branch, mine)
    said = _lines(branch, "log", "--format=%s (%an)", "-3", f"HEAD..{branch.theirs}", "--")
    target = _moved(branch, scratch) if own else _sha(branch, branch.theirs)
    _check_in_the_way(branch, target, mine)
    _go(branch, target, mine, forward=not own)
    return f"took up {len(came)} commit{'s' if len(came) > 1 else ''} of {branch}: {'; '.join(said)}"


def commit(root: Path, paths: Iterable[Path], message: str) -> str:
    """Commit the files among ``paths`` that changed, nothing else; returns the commit, or nothing when none did.

    The rest of the index stays as it is; ignored files are left out. Raises StepFailed when git will not.
    """
    names = [path.relative_to(root).as_posix() for path in paths]
    if not names:
        return ""
    new = _names(root, "ls-files", "-z", "--others", "--exclude-standard", "--", *names)
    changed = [*_names(root, "diff", "-z", "--name-only", "--relative", "--no-renames", "HEAD", "--", *names), *new]
    if not changed:
        return ""
    if new:
        _must(root, "add", "--intent-to-add", "--", *new)
    try:
        _must(root, *identity(root), "commit", "--quiet", "--only", "-m", message, "--", *changed)
    except StepFailed:
        if new:
            _git(root, "reset", "--quiet", "--", *new)
        raise
    return _must(root, "rev-parse", "--short", "HEAD").strip()


def changed(root: Path) -> set[str]:
    """Tracked files of the project, named relative to ``root``, that differ from the commit."""
    return set(_names(root, "diff", "-z", "--name-only", "--relative", "--no-renames", "HEAD", "--", "."))


def identity(root: Path) -> list[str]:
    """Words for git so that it can commit where it has no name of the user's."""
    known = _git(root, "var", "GIT_COMMITTER_IDENT").ok and _git(root, "var", "GIT_AUTHOR_IDENT").ok
    return [] if known else ["-c", "user.name=plantops", "-c", "user.email=plantops@localhost"]


def _own_commits(branch: Branch) -> list[str]:
    """The commits that only this machine has. Raises StepFailed when one of them is not plantops' own."""
    form = f"--format=%h%x00%(trailers:key={TRAILER},valueonly,separator=%x20)"
    listed = [line.split("\0") for line in _lines(branch, "log", form, f"{branch.theirs}..HEAD", "--")]
    users = [sha for sha, trailer in listed if not trailer.strip()]
    if users:
        raise StepFailed(
            f"{branch.name} and {branch} went different ways: {', '.join(users[:5])} of yours is not there",
            f"git pull --rebase {branch.remote} {branch.name}",
        )
    return [sha for sha, _ in listed]


def _check_signed(branch: Branch, commits: list[str]) -> None:
    for sha in reversed(commits):
        if not _git(branch.top, "verify-commit", sha).ok:
            who = _must(branch.top, "log", "-1", "--format=%h by %an <%ae>", sha).strip()
            raise StepFailed(f"{branch}: git does not verify a signature on {who}", f"git verify-commit {sha[:7]}")


def _check_folder(branch: Branch, mine: IsMine) -> None:
    users = [name for name in _uncommitted(branch) if not mine(branch.top / name)]
    if users:
        more = f" and {len(users) - 5} more" if len(users) > 5 else ""
        raise StepFailed(
            f"commits of {branch} wait: changed here and not committed: {', '.join(users[:5])}{more}",
            "git commit, or git stash",
        )


def _check_in_the_way(branch: Branch, target: str, mine: IsMine) -> None:
    """Files that nobody committed here, and that would come."""
    added = _names(branch.top, "diff", "-z", "--name-only", "--no-renames", "--diff-filter=A", "HEAD", target)
    users = [one for one in added if os.path.lexists(branch.top / one) and not mine(branch.top / one)]
    if users:
        aside = shlex.join(["mv", users[0], f"{users[0]}.mine"])
        raise StepFailed(f"commits of {branch} wait: they bring {users[0]}, which is here, too", aside)


def _uncommitted(branch: Branch) -> list[str]:
    """Tracked files that differ from the commit, in the folder or in the index."""
    words = ("diff", "-z", "--name-only", "--no-renames", "--ignore-submodules=dirty")
    return sorted({*_names(branch.top, *words, "HEAD"), *_names(branch.top, *words, "--cached")})


def _moved(branch: Branch, scratch: Path) -> str:
    """plantops' own commits on top of theirs, made in a folder of their own; returns the last."""
    _drop(branch, scratch)
    try:
        _must(branch.top, *_NO_HOOKS, "worktree", "add", "--quiet", "--detach", str(scratch), "HEAD")
        words = ("-c", "rebase.autoStash=false", "rebase", "--quiet", "--no-autosquash", branch.theirs)
        _must(scratch, *identity(branch.top), *_NO_HOOKS, *words)
        return _must(scratch, "rev-parse", "HEAD").strip()
    except StepFailed as failed:
        raise StepFailed(
            f"plantops' own commits and those of {branch} change the same lines: {failed.message}",
            f"git pull --rebase {branch.remote} {branch.name}",
        ) from None
    finally:
        _drop(branch, scratch)


def _drop(branch: Branch, scratch: Path) -> None:
    if scratch.exists():
        _git(branch.top, "worktree", "remove", "--force", "--force", str(scratch))
    _git(branch.top, "worktree", "prune")


def _go(branch: Branch, target: str, mine: IsMine, forward: bool) -> None:
    """Have branch and folder be at ``target``. Files of plantops' own make way; when git refuses, they are back."""
    words = ("diff", "-z", "--name-only", "--no-renames")
    added = _names(branch.top, *words, "--diff-filter=A", "HEAD", target)
    touched, uncommitted = _names(branch.top, *words, "HEAD", target), _uncommitted(branch)
    changed = [name for name in uncommitted if name in touched and name not in added]
    staged = [name for name in uncommitted if name in added]
    saved = {path: path.read_bytes() for name in [*changed, *added] if mine(path := branch.top / name)}
    try:
        if changed:
            _must(branch.top, "checkout", "--quiet", "HEAD", "--", *changed)
        if staged:
            _must(branch.top, "rm", "--quiet", "--cached", "--", *staged)
        for name in added:
            (branch.top / name).unlink(missing_ok=True)
        step = ("merge", "--ff-only", "--quiet") if forward else ("reset", "--keep", "--quiet")
        _must(branch.top, "-c", "merge.autoStash=false", *step, target)
    except BaseException:
        for path, data in saved.items():
            path.write_bytes(data)
        raise


def _over_network(branch: Branch, *words: str) -> None:
    ssh = os.environ.get("GIT_SSH_COMMAND") or _git(branch.top, "config", "core.sshCommand").out.strip() or "ssh"
    quiet = {
        "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_ASKPASS_REQUIRE": "never", "GCM_INTERACTIVE": "never",
        "GIT_SSH_COMMAND": ssh + _SSH, "GIT_HTTP_LOW_SPEED_LIMIT": "1", "GIT_HTTP_LOW_SPEED_TIME": "30",
    }  # fmt: skip
    answer = process.capture(["git", *words], branch.top, _NETWORK_S, quiet)
    if not answer.ok:
        said = " / ".join(line.strip() for line in answer.err.splitlines() if line and not _ADVICE.match(line))
        raise StepFailed(f"git {words[0]} {branch.remote} failed: {said[-300:]}", f"git {words[0]} {branch.remote}")


def _sha(branch: Branch, name: str) -> str:
    return _git(branch.top, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").out.strip()


def _lines(branch: Branch, *words: str) -> list[str]:
    return _must(branch.top, *words).splitlines()


def _names(folder: Path, *words: str) -> list[str]:
    return [name for name in _must(folder, *words).split("\0") if name]


def _must(folder: Path, *words: str) -> str:
    answer = _git(folder, *words)
    if not answer.ok:
        said = " / ".join(line for line in (answer.err or answer.out).splitlines() if not _ADVICE.match(line))
        raise StepFailed(f"git {next(one for one in words if one.isalpha())}: {said}", "git status")
    return answer.out


def _git(folder: Path, *words: str) -> process.Answer:
    return process.capture(["git", "-c", "core.quotePath=false", "--literal-pathspecs", *words], folder)
