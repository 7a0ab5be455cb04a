"""`plantops upgrade`: what the installed version has that an older project has not; asks, file by file."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from plantops import code, detect, dvc, lock, project, store, whole
from plantops.config import CODE, FILE, PARAMS, Config
from plantops.console import Console
from plantops.existing import ASIDE
from plantops.project import Naming

_SETTINGS = (FILE, PARAMS)
_LINES = 40  # of a difference that a person sees; the files are there to be compared in full


@dataclass(frozen=True)
class Newer:
    """A file that is another in the installed version. ``text`` is what it would hold, ``lines`` say the difference."""

    name: str
    lines: list[str]
    text: bytes


def upgrade(config: Config, console: Console, ask: Callable[[str], bool]) -> None:
    """Say what would change, and change what ``ask`` says yes to; what is replaced is kept in .before-plantops/.

    Settings keep their values. Raises Busy while a run is going.
    """
    with lock.hold(config.state):
        called = project.naming(config.root)
        found = [*_files(config.root, called), *_params(config.root, called)]
        notes = [*_news(config.root, called), *_state(config), *_retrained(config.root)]
        for one in notes:
            console.say(one)
        if not (found or notes):
            console.say("this project is as the installed version would make it", "green")
        aside = config.root / ASIDE / f"{datetime.now():%Y%m%d-%H%M%S}"
        done = [one.name for one in found if _offered(config.root, one, aside, console, ask)]
    if done:
        console.say(f"changed: {', '.join(done)}; as they were: {aside.relative_to(config.root)}", "green")
        console.say("next: git diff, plantops check, git commit")
    elif found:
        console.say("nothing was changed; plantops upgrade --yes changes all of it")


def _offered(root: Path, one: Newer, aside: Path, console: Console, ask: Callable[[str], bool]) -> bool:
    """Show a difference, and do it if that is wanted; says whether it was."""
    console.say(one.name, "bold")
    for line in one.lines[:_LINES]:
        console.say(f"  {line}", {"+": "green", "-": "red"}.get(line[:1], "grey"))
    if len(one.lines) > _LINES:
        console.say(f"  … and {len(one.lines) - _LINES} more lines", "grey")
    if not ask(f"Change {one.name}?"):
        return False
    target = root / one.name
    if target.exists():
        (aside / one.name).parent.mkdir(parents=True, exist_ok=True)
        (aside / one.name).write_bytes(target.read_bytes())
    whole.write(target, one.text.decode())
    return True


def _files(root: Path, called: Naming) -> Iterator[Newer]:
    """Stages, the Docker stack and what git and DVC ignore, where lines of a person's stay; not the settings."""
    for name in project.files():
        path = root / name
        old = path.read_bytes() if path.is_file() else b""
        added = old and name in project.IGNORING
        new = project.ignoring(name, old, called)[0] if added else project.template(name, called)
        if name not in _SETTINGS and old != new:
            ours, theirs = (one.decode(errors="replace").splitlines() for one in (old, new))
            yield Newer(name, list(difflib.unified_diff(ours, theirs, lineterm="", n=1))[2:], new)


def _params(root: Path, called: Naming) -> Iterator[Newer]:
    """Parameters that stages want and that are not set: the others keep their values, and the file its comments."""
    missing = _missing(dvc.parsed((root / PARAMS).read_text(encoding="utf-8")), project.template(PARAMS, called))
    if missing:
        text = dvc.filled(root / PARAMS, project.template(PARAMS, called).decode())
        yield Newer(PARAMS, [f"+{key}: {value}" for key, value in missing.items()], text.encode())


def _news(root: Path, called: Naming) -> Iterator[str]:
    """Settings of config.yaml that it does not name: they hold their defaults, so nothing has to be written."""
    ours = dvc.parsed((root / FILE).read_text(encoding="utf-8"))
    for key, value in _missing(ours, project.template(FILE, called)).items():
        yield f"{FILE}: {key} is not named, and is {value} by default"


def _missing(ours: Any, template: bytes) -> dict[str, Any]:
    """Keys of the template that are not among ours, flat, with the values that the template has."""
    known = detect.flatten(ours if isinstance(ours, dict) else {})
    flat = detect.flatten(dvc.parsed(template.decode()))
    return {key: value for key, value in flat.items() if not _covered(key, known)}


def _covered(key: str, known: dict[str, Any]) -> bool:
    """Whether a key is set, or something below it, or something else stands above it than an empty section."""
    above = (value for one, value in known.items() if key.startswith(f"{one}."))
    return any(one == key or one.startswith(f"{key}.") for one in known) or any(above)


def _state(config: Config) -> Iterator[str]:
    """A memory that the next command which writes would bring up to date; there is no way back to an older plantops."""
    has, wanted = store.schema(config.state)
    if has < wanted:
        said = f"the next command that writes makes schema {wanted} of {has}; plantops backup first"
        yield f".plantops/{store.FILE}: {said}"


def _retrained(root: Path) -> Iterator[str]:
    """Stages whose code is another than that which the last run recorded."""
    recorded = dvc.parsed((root / CODE).read_text(encoding="utf-8")) if (root / CODE).is_file() else {}
    now = code.digests(dvc.pipeline(root))
    other = [stage for stage in now if isinstance(recorded, dict) and recorded.get(stage, now[stage]) != now[stage]]
    if other:
        yield f"training code: {', '.join(other)} changed, and will run again with the next plantops run"
