"""What teammates get of a release, as config says: a commit of what plantops wrote, its data in DVC's remote, a push.

Another view of what the store says: it follows after a run, and where it could not, after the next one. Nothing here
can fail a release.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from plantops import branch, detect, dvc, remote, written
from plantops.artifacts import RELEASE_FILE
from plantops.config import CODE, LOCK, PIPELINE, Config
from plantops.console import Console
from plantops.errors import PlantopsError, StepFailed
from plantops.shelf import Shelf
from plantops.store import RELEASED, UNCHANGED, Run, Store

_VIEW = "shared"


def share(config: Config, store: Store, console: Console) -> None:
    """Commit, send and push what the last settled run made, unless that is done. Says what it could not do."""
    run = store.last_settled()
    wanted = [name for name, on in _wishes(config).items() if on]
    if not wanted or run is None or run.state not in (RELEASED, UNCHANGED):
        return
    mark = f"{run.id} {' '.join(wanted)}"
    if store.shown(_VIEW) == mark:
        return
    try:
        if config.git.commit:
            _commit(config, store, run, console)
        if config.dvc.push:
            _send(config, console)
        if config.git.commit and config.git.push:
            _push(config, store, console)
    except PlantopsError as error:
        console.say(f"  not shared yet: {error.message}; tried again after the next run ({error.hint})", "yellow")
    else:
        store.set_shown(_VIEW, mark)


def remember(root: Path, store: Store, added: Iterable[Path] = ()) -> None:
    """Remember what plantops wrote by itself: what a run writes, or the ``.dvc`` files of folders that it added."""
    names = [f"{folder.relative_to(root).as_posix()}.dvc" for folder in added]
    written.remember(root, store, names or _own_names(root))


def _own_names(root: Path) -> list[str]:
    """The files in git that a run writes: dvc.lock, the digests of the training code, outputs that git keeps."""
    return [LOCK, CODE, *sorted(dvc.in_git(dvc.pipeline(root)))]


def _wishes(config: Config) -> dict[str, bool]:
    return {"commit": config.git.commit, "dvc": config.dvc.push, "push": config.git.commit and config.git.push}


def _commit(config: Config, store: Store, run: Run, console: Console) -> None:
    root = config.root
    branch.name_of(root)
    mine = written.is_mine(root, store)
    names = [name for name in _own_names(root) if mine(root / name)]
    made = branch.commit(root, [root / name for name in [*names, *_data(root, run)]], _message(config, run))
    if not made:
        return
    console.say(f"  committed {made}: dvc.lock and what else plantops wrote")
    left = branch.changed(root) & {PIPELINE, *dvc.params_files(dvc.pipeline(root))}
    if left:
        console.say(f"  not in it, and yours to commit: {', '.join(sorted(left))}", "yellow")


def _data(root: Path, run: Run) -> list[str]:
    """The ``.dvc`` files that are as the run took them; among them those that were gone by then."""
    now, then = dvc.inputs(root), run.left_behind or {}
    moved = {one.file for one in detect.changes(then, now)}
    return sorted(name for name in {*now, *branch.changed(root)} if name.endswith(".dvc") and name not in moved)


def _send(config: Config, console: Console) -> None:
    where = remote.default(config.root)
    if where is None:
        raise StepFailed("dvc.push is on, and DVC has no default remote", "dvc remote add -d NAME URL")
    remote.push(config.root, console.log)
    console.say(f"  in the DVC remote {where.name}", "grey")


def _push(config: Config, store: Store, console: Console) -> None:
    here = branch.checked_out(config.root, "")
    try:
        branch.push(here)
    except StepFailed as failed:
        if "rejected" not in failed.message:
            raise
        branch.fetch(here)
        mine, signed = written.is_mine(config.root, store), config.watch.git.require_signed
        console.say(f"  {branch.unite(here, mine, signed, config.state / branch.SCRATCH)}")
        branch.push(here)
    console.say(f"  pushed to {here}", "grey")


def _message(config: Config, run: Run) -> str:
    scores = ", ".join(f"{rule} {value:.3f}" for rule, value in _scores(config, run.release).items())
    return f"Release {run.release}" + (f"\n\n{scores}" if scores else "") + f"\n\n{branch.TRAILER}: {run.id}"


def _scores(config: Config, release: str | None) -> dict[str, float]:
    try:
        path = Shelf(config.models).release(release or "") / RELEASE_FILE
        verdict: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")).get("verdict") or {}
    except (OSError, ValueError):
        return {}
    findings = verdict.get("findings", [])
    return {one["rule"]: one["value"] for one in findings if one["rule"] in ("accuracy", "macro_f1") and one["value"]}
