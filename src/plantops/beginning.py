"""`plantops init`: says what it found in a folder, asks where something is in the way, and makes the project."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from plantops import dvc, existing, project
from plantops.config import FILE, PIPELINE
from plantops.console import Console
from plantops.errors import SetupError
from plantops.project import Naming

Ask = Callable[[str], bool]
_SIGNS = re.compile(r"[][*?!#$\\]")  # which .gitignore and DVC read as something else


def begin(folder: Path, photos: Path | None, name: str | None, console: Console, ask: Ask) -> None:
    """Make ``folder`` a project, around ``photos`` or those that lie in it.

    Nothing is overwritten or deleted: what is in the way is moved aside, where ``ask`` says yes. Raises SetupError
    where it says no, or where photos cannot be told from one another.
    """
    root = folder.resolve()
    if name is not None and name != project.named(Path(name)):
        raise SetupError(f"{name!r} cannot be the name of a project", f"--name {project.named(Path(name))}")
    other = existing.foreign(root) if root.is_dir() else None
    if not other and (root / PIPELINE).is_file() and (root / FILE).is_file():
        if photos or name:
            raise SetupError(f"{root} is a plantops project already", f"cp -r the photos; the names are in {FILE}")
        called = project.naming(root)
        _say(console, project.make(root, called), folder, called.raw)
        return
    found = _photos(root, photos, other.raw if other else "")
    naming = _naming(root, found, name, other.raw if other else "")
    if other:
        _replace(root, other, console, ask)
    if found:
        console.say(f"found {found.sentence()}")
        _place(root, found, root / naming.raw, console, ask)
    _say(console, project.make(root, naming), folder, naming.raw)


def _replace(root: Path, other: existing.Foreign, console: Console, ask: Ask) -> None:
    """Say what is there, and move aside what plantops has its own of."""
    console.say(f"found a pipeline of another make in {root}")
    console.say(f"  would stay as it is:  {', '.join(other.kept) or 'nothing'}")
    console.say(f"  would be replaced:    {', '.join(other.replaced)} (moved to {existing.ASIDE}/, nothing is deleted)")
    console.say("  would get more lines: .gitignore and .dvcignore, where they are there")
    if other.raw:
        console.say(f"  photos:               {other.raw}")
    if not ask("Go on?"):
        raise SetupError("nothing was changed", "plantops init --yes does it without asking")
    moved = existing.set_aside(root, other)
    console.say(f"moved aside: {moved.relative_to(root)}; settings of yours are carried over by hand")


def _photos(root: Path, photos: Path | None, raw: str) -> existing.Photos | None:
    """The folder of classes named, the one that a pipeline there reads (``raw``), or the one that lies in it."""
    if photos is not None:
        return existing.photos(photos.resolve()) or _one_of(existing.search(photos.resolve()), photos)
    if raw and (read := existing.photos(root / raw)):
        return read
    inside = existing.search(root)
    return _one_of(inside, root) if len(inside) > 1 else next(iter(inside), None)


def _one_of(found: list[existing.Photos], folder: Path) -> NoReturn:
    """Raise SetupError: a person must say which."""
    if not found:
        said = f"{folder} does not hold two folders with photos, one for each class"
        raise SetupError(said, f"ls {shlex.quote(str(folder))}")
    listed = "\n".join(f"    {one.sentence()}" for one in found)
    said = f"which of these holds the classes cannot be told (a split is made by plantops itself):\n{listed}"
    raise SetupError(said, f"plantops init --photos {shlex.quote(str(found[0].folder))}")


def _naming(root: Path, found: existing.Photos | None, name: str | None, raw: str) -> Naming:
    """The defaults where nothing is known: neither photos nor a name."""
    usual = Naming()
    called = name or (project.named(root) if found and not raw else usual.name)
    if found and found.folder != root and found.folder.is_relative_to(root):
        return Naming(called, _plain(found.folder.relative_to(root).as_posix()))
    if raw:
        return Naming(called, raw)
    return Naming(called, usual.raw if called == usual.name else f"data/raw/{called}")


def _plain(folder: str) -> str:
    """A folder's name that can stand in YAML, .gitignore and .dvcignore as it is. Raises SetupError."""
    if _SIGNS.search(folder) or dvc.parsed(f"raw: {folder}") != {"raw": folder}:
        raise SetupError(
            f"the name {folder!r} would be read as something else in YAML or .gitignore", "another name, as photos"
        )
    return folder


def _place(root: Path, found: existing.Photos, target: Path, console: Console, ask: Ask) -> None:
    """Have the photos lie where the pipeline reads them."""
    if found.folder == target:
        return
    where = os.path.relpath(target, root)
    if found.folder == root:
        if not ask(f"Move the folders of the classes to {where}?"):
            said = "the classes lie at the root of the project, and its pipeline reads a folder of them"
            raise SetupError(said, "plantops init --yes moves them, or plantops init OTHER --photos . copies them")
        existing.move(found, target)
        console.say(f"moved them to {where}")
    else:
        existing.copy(found, target)
        console.say(f"copied them to {where}")


def _say(console: Console, done: list[str], folder: Path, raw: str) -> None:
    for line in done or ["a plantops project already: nothing to do"]:
        console.say(line)
    root, there = folder.resolve(), existing.photos(folder.resolve() / raw)
    into = "" if root == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    if there is None:
        console.say(f"next: put photos into {folder / raw}/<Class>/ and dvc add each class,")
        console.say("      or plantops sample for drawn leaves; then plantops run")
    else:
        console.say(f"next: {into}dvc add {shlex.quote(raw)}/*/")
        console.say("      git add . && git commit -m 'Add photos'; then plantops run")
