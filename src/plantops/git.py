"""The few things we ask of git. Nothing here changes the user's index, branch or files."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from plantops import process
from plantops.config import OWN_FILES
from plantops.errors import PlantopsError, SetupError, StepFailed

_LOG_S = 600


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


@dataclass(frozen=True)
class Revision:
    """A commit, and the names of the files in it, relative to the folder that it was asked from."""

    root: Path
    commit: str
    names: frozenset[str]

    def read(self, name: str) -> str | None:
        """What a file holds in it, as text; None where there is no such file."""
        answer = _git(self.root, "cat-file", "blob", f"{self.commit}:./{name}") if name in self.names else None
        return answer.out if answer and answer.ok else None


def revision(root: Path, name: str) -> Revision:
    """The commit that ``name`` (a branch, a tag, HEAD~1 …) stands for. Raises SetupError when there is none."""
    found = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if not found.ok:
        raise SetupError(f"git knows no revision {name} here", f"git fetch origin {name}, or git log --oneline")
    commit = found.out.strip()
    listed = _git(root, "ls-tree", "-r", "-z", "--name-only", commit)
    return Revision(root, commit, frozenset(one for one in listed.out.split("\0") if one))


def top(root: Path) -> Path:
    """The top folder of the repository that ``root`` lies in. Raises SetupError."""
    found = _git(root, "rev-parse", "--show-toplevel")
    if not found.ok:
        raise _why_not(root, found)
    return Path(found.out.rstrip("\n")).resolve()


def main_branch(root: Path) -> str:
    """The branch that others' work is merged into: origin's own, else the one checked out, else main."""
    theirs = _git(root, "symbolic-ref", "--short", "-q", "refs/remotes/origin/HEAD").out.strip()
    ours = _git(root, "symbolic-ref", "--short", "-q", "HEAD").out.strip()
    return theirs.removeprefix("origin/") or ours or "main"


def own_revision() -> str:
    """The commit of plantops itself in brackets, where it runs from a clone; empty where not, or git cannot say."""
    clone = Path(__file__).parents[2]
    if not (clone / ".git").exists():
        return ""
    try:
        return f" ({state(clone).short})"
    except PlantopsError:
        return ""


def versions(root: Path, pattern: str) -> set[str]:
    """All that files of such a name ever held: in the index, and in every commit that git still has.

    Those are the commits of branches, tags, stashes and reflogs, merges included, in the whole repository.
    Raises SetupError in a shallow clone, StepFailed when git fails.
    """
    if _git(root, "rev-parse", "--is-shallow-repository").out.strip() == "true":
        raise SetupError(f"{root} is a shallow clone: its older commits are not here", "git fetch --unshallow")
    # Whole files as patches; settings of the user's that would leave some out are overridden.
    shown = ["-p", "--text", "-U1000000", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-color"]
    log = ["log", "--all", "--reflog", "--full-history", "-m", "--format="]
    named = ["--", f":(top){pattern}"]
    whole = ["-c", "log.diffMerges=separate", "-c", "log.showRoot=true", "-c", "log.follow=false"]
    found: set[str] = set()
    for words in ([*whole, *log], ["diff", "--cached"]):
        answer = process.capture(["git", *words, *shown, *named], root, _LOG_S)
        if not answer.ok:
            raise StepFailed(f"git {words[-1]} failed: {answer.err.strip()}", "git fsck")
        found.update(_new_sides(answer.out))
    return found


def files(root: Path, pattern: str) -> list[Path]:
    """The files of such a name that are there, tracked or not, but for ignored ones."""
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", f":(top){pattern}")
    return [path for name in sorted(set(listed.out.split("\0"))) if name and (path := root / name).is_file()]


def removed(root: Path, name: str) -> bool:
    """Whether commits once held a file (relative to ``root``), and the one checked out has it no more."""
    listed = _git(root, "--literal-pathspecs", "ls-files", "--cached", "--", name)
    there = _git(root, "cat-file", "-e", f"HEAD:./{name}").ok
    return not (listed.out or there) and bool(_git(root, "log", "-1", "--format=%H", "--", name).out)


def came(root: Path, name: str) -> bool:
    """Whether a file (relative to ``root``) is as commits brought it; while they are being merged, any may be."""
    if _git(root, "rev-parse", "--verify", "--quiet", "MERGE_HEAD").ok:
        return True
    there = _git(root, "cat-file", "-e", f"HEAD:./{name}").ok
    return there and _git(root, "--literal-pathspecs", "diff", "--quiet", "HEAD", "--", name).ok


def _new_sides(patches: str) -> Iterator[str]:
    """What each file of a series of whole-file patches held afterwards."""
    lines: list[str] = []
    inside = False
    for line in patches.split("\n"):
        if line.startswith("diff --git "):
            yield "\n".join(lines)
            lines, inside = [], False
        elif line.startswith("@@"):
            inside = True
        elif inside and line[:1] in ("+", " "):
            lines.append(line[1:])
    yield "\n".join(lines)


def _diff(root: Path) -> str:
    paths = [".", *(f":(exclude,top){name}" for name in OWN_FILES), *(f":(exclude){name}" for name in OWN_FILES)]
    # A patch that `git apply` takes, whatever settings the user has for reading one.
    plain = ["--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/"]
    changed = _git(root, "-c", "diff.relative=false", "diff", "HEAD", *plain, "--", *paths)
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
            f"git refuses {root}: {answer.err.strip()}",
            f"git config --global --add safe.directory {shlex.quote(str(root))}",
        )
    if "not a git repository" in answer.err:
        return SetupError(f"{root} is in no git repository", "git init && git add . && git commit -m 'Start'")
    return SetupError(f"{root} has no commit yet", "git add . && git commit -m 'Start'")
