"""`plantops init`: a ready project from the same files that the clone has. Never overwrites anything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from plantops import branch, code, dvc, process, shipped
from plantops.config import CODE, FILE, LOCK, PARAMS, PIPELINE, load
from plantops.errors import SetupError

_TEMPLATES = (FILE, PARAMS, PIPELINE, ".gitignore", ".dvcignore", ".dockerignore")
IGNORING = (".gitignore", ".dvcignore")
_DOCKER = "docker"
# Made on the spot, beside the templates.
_OWN = (".env", ".env.new", "app")
# DVC takes an empty lock, and `git add … dvc.lock` works before the first run.
_EMPTY_LOCK = "schema: '2.0'\n"
_NAME, _RAW = "plant-disease", "data/raw/PlantVillage"  # as the templates have them
_FIELD = Path("data/field")  # a stage depends on it, so it is there also when it is empty


@dataclass(frozen=True)
class Naming:
    """What a project is called (in MLflow, and its image), and the folder of photos, relative to its root."""

    name: str = _NAME
    raw: str = _RAW

    def write(self, template: str) -> str:
        """A template with these names in place of its own."""
        text = template.replace(_RAW, self.raw).replace(_NAME, self.name)
        return text if self.raw.startswith("data/raw/") else text.replace("data/raw/**/", f"{self.raw}/**/")


def named(folder: Path) -> str:
    """A name that git, Docker and MLflow all take, after the folder's."""
    return re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "photos"


def naming(folder: Path) -> Naming:
    """As the project in ``folder`` has it. Raises SetupError where its settings cannot be read."""
    return Naming(load(folder).project, dvc.raw_folder(folder).relative_to(folder).as_posix())


def template(name: str, called: Naming) -> bytes:
    """What a file of a new project holds. The names of a Docker stack's services are plantops' own, and stay."""
    data = shipped.template(name).read_bytes()
    return data if name.startswith(f"{_DOCKER}/") else called.write(data.decode()).encode()


def files() -> list[str]:
    """The files that a project is made of, relative to its root."""
    return [*_TEMPLATES, *_docker_files()]


def make(folder: Path, called: Naming | None = None) -> list[str]:
    """Make ``folder`` a plantops project: files, git, DVC, a first commit; returns what was done, in words.

    What exists stays as it is. In a git repository that was there before, nothing is committed.
    """
    called = called or Naming()
    folder.mkdir(parents=True, exist_ok=True)
    done = [f"added to {name}: {', '.join(more)}" for name in IGNORING if (more := _add_lines(name, folder, called))]
    done += [f"wrote {name}" for name in files() if _write(name, folder, called)]
    if not (folder / CODE).exists():
        code.write(folder, dvc.pipeline(folder))
    if not (folder / LOCK).exists():
        (folder / LOCK).write_text(_EMPTY_LOCK, encoding="utf-8")
    for data in (Path(called.raw), _FIELD):
        (folder / data).mkdir(parents=True, exist_ok=True)
        (folder / data / ".gitkeep").touch()
    ours = _git_init(folder)
    done += ["made a git repository"] if ours else []
    done += ["initialised DVC"] if _dvc_init(folder) else []
    if ours:
        _commit(folder, called)
        done.append("committed it")
    elif done:
        done.append("nothing committed: git add . && git commit -m 'Add plantops'")
    return done


def ignoring(name: str, old: bytes, called: Naming) -> tuple[bytes, list[str]]:
    """An ignore file with the lines that it lacks at its end, and those lines.

    Without them git and DVC would take what we make for data.
    """
    there = old.decode(errors="surrogateescape").splitlines()
    wanted = [one for one in template(name, called).decode().splitlines() if one and not one.startswith("#")]
    more = [one for one in wanted if one not in there]
    begin = "" if old.endswith(b"\n") or not old else "\n"
    return (old + "\n".join([begin, "# plantops", *more, ""]).encode() if more else old), more


def _add_lines(name: str, folder: Path, called: Naming) -> list[str]:
    target = folder / name
    if not target.is_file():
        return []
    text, more = ignoring(name, target.read_bytes(), called)
    if more:
        target.write_bytes(text)
    return more


def _write(name: str, folder: Path, called: Naming) -> bool:
    target = folder / name
    if target.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(template(name, called))
    target.chmod(shipped.template(name).stat().st_mode & 0o777)
    return True


def _docker_files() -> list[str]:
    """The files of the Docker stack, relative to the project's root."""
    base = shipped.template(_DOCKER)
    inside = [one.relative_to(base) for one in sorted(base.rglob("*")) if one.is_file()]
    return [f"{_DOCKER}/{one}" for one in inside if not {*one.parts} & {*_OWN}]


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


def _commit(folder: Path, called: Naming) -> None:
    # Only what we made: the folder may hold archives and secrets of the user's.
    kept = [f"{called.raw}/.gitkeep", f"{_FIELD}/.gitkeep"]
    _must(["git", "add", *_TEMPLATES, _DOCKER, CODE, LOCK, ".dvc", *kept], folder)
    _must(["git", *branch.identity(folder), "commit", "-q", "-m", "Start a plantops project"], folder)


def _must(argv: list[str], folder: Path) -> None:
    answer = process.capture(argv, folder)
    if not answer.ok:
        raise SetupError(f"`{' '.join(argv)}` failed in {folder}: {(answer.err or answer.out).strip()}")
