"""The few things we ask of git. Nothing here changes the user's index, branch or files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plantops import process
from plantops.config import OWN_FILES
from plantops.errors import SetupError


@dataclass(frozen=True)
class State:
    """The commit checked out, and what differs from it (a diff as text, empty when clean)."""

    commit: str
    branch: str
    diff: str

    @property
    def short(self) -> str:
        """The commit's first seven characters, with ``-dirty`` when there are uncommitted changes."""
        return self.commit[:7] + ("-dirty" if self.diff else "")


def state(root: Path) -> State:
    """Commit and uncommitted changes (of tracked files, and new files' names) of the repository at ``root``.

    Raises SetupError when git is missing, ``root`` is in no repository, or there is no commit yet.
    """
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    if not commit.ok:
        raise _why_not(root, commit)
    branch = _git(root, "symbolic-ref", "--short", "-q", "HEAD")
    return State(commit.out.strip(), branch.out.strip(), _diff(root))


def _diff(root: Path) -> str:
    paths = [".", *(f":(exclude,top){name}" for name in OWN_FILES), *(f":(exclude){name}" for name in OWN_FILES)]
    changed = _git(root, "diff", "HEAD", "--no-ext-diff", "--", *paths)
    new = _git(root, "ls-files", "--others", "--exclude-standard", "--", *paths)
    if not changed.ok:
        raise SetupError(f"git diff failed: {changed.err.strip()}", "git status")
    listed = "".join(f"new file, not in git: {line}\n" for line in new.out.splitlines())
    return changed.out + listed


def _git(root: Path, *arguments: str) -> process.Answer:
    return process.capture(["git", "-c", "core.quotePath=false", *arguments], root)


def _why_not(root: Path, answer: process.Answer) -> SetupError:
    if answer.status == 127:
        return SetupError("git is not installed", "apt install git")
    if "dubious ownership" in answer.err:
        return SetupError(
            f"git refuses {root}: {answer.err.strip()}", f"git config --global --add safe.directory {root}"
        )
    if "not a git repository" in answer.err:
        return SetupError(f"{root} is in no git repository", "git init && git add . && git commit -m 'Start'")
    return SetupError(f"{root} has no commit yet", "git add . && git commit -m 'Start'")
