"""`plantops init`: a ready project from the same files that the clone has. Never overwrites anything."""

from __future__ import annotations

import shutil
from pathlib import Path

from plantops import branch, code, dvc, process
from plantops.config import CODE, FILE, LOCK, PARAMS, PIPELINE
from plantops.errors import SetupError
from plantops.shipped import template

_TEMPLATES = (FILE, PARAMS, PIPELINE, ".gitignore", ".dvcignore", ".dockerignore")
_DOCKER = "docker"
# Made on the spot, beside the templates.
_OWN = (".env", ".env.new", "app")
# DVC takes an empty lock, and `git add … dvc.lock` works before the first run.
_EMPTY_LOCK = "schema: '2.0'\n"
_RAW = Path("data/raw/PlantVillage")
_FIELD = Path("data/field")  # a stage depends on it, so it is there also when it is empty


def make(folder: Path) -> list[str]:
    """Make ``folder`` a plantops project: files, git, DVC, a first commit; returns what was done, in words.

    What exists stays as it is. In a git repository that was there before, nothing is committed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = [f"wrote {name}" for name in (*_TEMPLATES, *_docker_files()) if _copy(name, folder)]
    if not (folder / CODE).exists():
        code.write(folder, dvc.pipeline(folder))
    if not (folder / LOCK).exists():
        (folder / LOCK).write_text(_EMPTY_LOCK, encoding="utf-8")
    for data in (_RAW, _FIELD):
        (folder / data).mkdir(parents=True, exist_ok=True)
        (folder / data / ".gitkeep").touch()
    ours = _git_init(folder)
    done += ["made a git repository"] if ours else []
    done += ["initialised DVC"] if _dvc_init(folder) else []
    if ours:
        _commit(folder)
        done.append("committed it")
    elif done:
        done.append("nothing committed: git add . && git commit -m 'Add plantops'")
    return done


def _copy(name: str, folder: Path) -> bool:
    target = folder / name
    if target.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(template(name), target)
    return True


def _docker_files() -> list[str]:
    """The files of the Docker stack, relative to the project's root."""
    base = template(_DOCKER)
    inside = [one.relative_to(base) for one in sorted(base.rglob("*")) if one.is_file()]
    return [f"{_DOCKER}/{one}" for one in inside if one.parts[0] not in _OWN]


def _git_init(folder: Path) -> bool:
    """Make a repository unless ``folder`` is in one that does not ignore it; says whether it did."""
    inside = process.capture(["git", "rev-parse", "--show-toplevel"], folder)
    if inside.status == 127:
        raise SetupError("git is not installed", "apt install git")
    if inside.ok:
        top = Path(inside.out.strip())
        ignored = process.capture(["git", "check-ignore", "-q", str(folder.resolve())], top).ok
        if top == folder.resolve() or not ignored:
            return False
    _must(["git", "init", "-q"], folder)
    return True


def _dvc_init(folder: Path) -> bool:
    if (folder / ".dvc").is_dir():
        return False
    top = (folder / ".git").exists()
    _must(["dvc", "init", "--quiet", *([] if top else ["--subdir"])], folder)
    for key in ("core.analytics", "core.check_update"):
        _must(["dvc", "config", key, "false"], folder)
    return True


def _commit(folder: Path) -> None:
    # Only what we made: the folder may hold archives and secrets of the user's.
    _must(
        ["git", "add", *_TEMPLATES, _DOCKER, CODE, LOCK, ".dvc", str(_RAW / ".gitkeep"), str(_FIELD / ".gitkeep")],
        folder,
    )
    _must(["git", *branch.identity(folder), "commit", "-q", "-m", "Start a plantops project"], folder)


def _must(argv: list[str], folder: Path) -> None:
    answer = process.capture(argv, folder)
    if not answer.ok:
        raise SetupError(f"`{' '.join(argv)}` failed in {folder}: {(answer.err or answer.out).strip()}")
