"""Brings what teammates have and this machine lacks: photos that a ``.dvc`` names, outputs that dvc.lock names.

From DVC's cache, else from its remote. A folder of photos is replaced only when the cache holds what lies there now:
then it is a state that DVC knows, and nothing is lost. Anything else is local work, and stays.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from plantops import dvc, git, remote, scan
from plantops.config import LOCK, PIPELINE, Config
from plantops.console import Console
from plantops.errors import SetupError, StepFailed
from plantops.store import Store

Wanted = dict[str, list[dict[str, Any]]]


def photos(config: Config, store: Store, console: Console) -> list[scan.Loose]:
    """Have folders hold what their ``.dvc`` names; returns those that DVC still does not know as they are.

    Raises SetupError when what a ``.dvc`` names is not to be had.
    """
    root, raw = config.root, dvc.raw_folder(config.root)
    found = scan.loose(root, raw, store)
    elsewhere = dict(_outside(root, raw, store))
    if not (found or elsewhere):
        return []
    cache = remote.cache(root)
    superseded = [one.folder for one in found if _may_be_replaced(one, cache)]
    wanted = {_dvc_file(root, one): [dvc.covered(one) or {}] for one in superseded} | elsewhere
    _bring(config, cache, wanted, console)
    gone = [one.folder for one in found if _taken_away(root, store, one) and remote.holds(cache, {"md5": one.md5})]
    for folder in gone:
        shutil.rmtree(folder)
        console.say(f"  {folder.name}: a commit took its .dvc away, and so its photos (they stay in DVC's cache)")
    left = scan.loose(root, raw, store) if superseded or gone else found
    return [_in_words(root, one, cache) for one in left]


def outputs(config: Config, store: Store, inputs: dict[str, Any], console: Console) -> None:
    """Have stages that others ran since our last run hold their outputs; what is not to be had is run."""
    root, last = config.root, store.last_ended()
    entries = dvc.lock_entries(inputs.get(LOCK))
    before = dvc.lock_entries((last.left_behind or {}).get(LOCK)) if last else entries
    wanted = {}
    for stage, outs in _cached(entries, dvc.in_git(inputs.get(PIPELINE))).items():
        if entries[stage] != before.get(stage) or not all((root / one["path"]).exists() for one in outs):
            wanted[stage] = outs
    if not wanted:
        return
    try:
        cache = remote.cache(root)
        _fetch(config, cache, wanted, console)
        here = [stage for stage, outs in wanted.items() if all(remote.holds(cache, one) for one in outs)]
        if here:
            remote.checkout(root, here, console.log)
    except StepFailed as error:
        console.say(f"  {error.message}; the stages are run here ({error.hint})", "yellow")


def _bring(config: Config, cache: Path, wanted: Wanted, console: Console) -> None:
    """Photos and files by their ``.dvc``. Raises SetupError where they are not to be had."""
    if not wanted:
        return
    try:
        _fetch(config, cache, wanted, console)
        lacking = [name for name, outs in wanted.items() if not all(remote.holds(cache, one) for one in outs)]
        if lacking:
            raise _nowhere(config, lacking)
        remote.checkout(config.root, wanted, console.log)
    except StepFailed as error:
        raise SetupError(error.message, error.hint) from None
    console.say(f"  brought into step with DVC: {', '.join(wanted)}")


def _fetch(config: Config, cache: Path, wanted: Wanted, console: Console) -> None:
    lacking = [name for name, outs in wanted.items() if not all(remote.holds(cache, one) for one in outs)]
    if lacking and config.dvc.pull and remote.default(config.root):
        console.say(f"  dvc fetch {' '.join(lacking)}", "grey")
        remote.fetch(config.root, lacking, console.log)


def _nowhere(config: Config, lacking: list[str]) -> SetupError:
    listed = "\n".join(f"    {one}" for one in lacking)
    where = remote.default(config.root)
    said = f"not here, and not in the DVC remote {where} either" if where else "not here, and there is no DVC remote"
    hint = "whoever committed it: dvc push; then plantops run" if where else "dvc remote add -d NAME URL"
    if where and not config.dvc.pull:
        said, hint = (
            "not here, and config.yaml forbids to bring it (dvc.pull: false)",
            f"dvc pull {shlex.quote(lacking[0])}",
        )
    return SetupError(f"what these name is {said}:\n{listed}", hint)


def _may_be_replaced(one: scan.Loose, cache: Path) -> bool:
    """Whether a folder is away, or a state that the cache holds, and its ``.dvc`` names another."""
    if dvc.covered(one.folder) is None:
        return False
    return not one.md5 or remote.holds(cache, {"md5": one.md5})


def _taken_away(root: Path, store: Store, one: scan.Loose) -> bool:
    """Whether a folder is what its ``.dvc`` named at the last settled run, and a commit took that ``.dvc`` away."""
    name, settled = _dvc_file(root, one.folder), store.last_settled()
    before = dvc.first_out((settled.left_behind or {}).get(name)) if settled else None
    if one.folder.is_symlink() or dvc.covered(one.folder) or before is None or before.get("md5") != one.md5:
        return False
    return git.removed(root, name)


def _in_words(root: Path, one: scan.Loose, cache: Path) -> scan.Loose:
    """A folder with photos of its own whose ``.dvc`` came from others: `dvc add` would drop theirs.

    One that was written here and names what the cache does not hold is of a `dvc repro` while photos came: DVC hashes
    a folder twice then, and keeps what the second time gives under the name of the first. Nothing is lost with it.
    """
    out = dvc.covered(one.folder)
    if out is None or not one.md5 or remote.holds(cache, out):
        return one
    name = _dvc_file(root, one.folder)
    if not git.came(root, name):
        return one
    said = f"{one.folder.name}: other photos came by {name}, and photos changed here, too: put yours aside"
    return replace(
        one, what=f"{said}, dvc pull --force {shlex.quote(name)}, put them back, and then dvc add", add=False
    )


def _outside(root: Path, raw: Path, store: Store) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """``.dvc`` files of other things than photos: what they name is away, or they changed since the last run."""
    settled = store.last_settled()
    for name, value in dvc.inputs(root).items():
        path = root / name
        outs = value.get("outs") if name.endswith(".dvc") and isinstance(value, dict) else None
        if not outs or raw in (path.parent, path.with_suffix("")):
            continue
        before = (settled.left_behind or {}).get(name, {}).get("outs") if settled else outs
        where = path.parent / str(value.get("wdir", "."))
        kept = [one for one in outs if one.get("cache", True)]
        if before != outs or not all((where / one["path"]).exists() for one in kept):
            yield name, kept


def _cached(entries: dict[str, dict[str, Any]], in_git: set[str]) -> Wanted:
    """The outputs of stages that are in DVC's cache."""
    found = {}
    for stage, entry in entries.items():
        if outs := [one for one in entry.get("outs") or [] if one["path"] not in in_git]:
            found[stage] = outs
    return found


def _dvc_file(root: Path, folder: Path) -> str:
    return f"{folder.relative_to(root).as_posix()}.dvc"
