"""`plantops doctor`: what is wrong here, in words, and the command that mends it.

Looking mends nothing; :func:`fix` mends what is safe to mend unasked.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from plantops import (
    deploy,
    dvc,
    dvclocks,
    extras,
    git,
    lease,
    lock,
    recall,
    recover,
    roundtrip,
    scan,
    symptoms,
    training,
)  # fmt: skip
from plantops.bundle import BadBundle, Bundle
from plantops.config import Config, find_root, load
from plantops.console import Console
from plantops.errors import ROOM, PlantopsError, redacted
from plantops.shelf import Shelf
from plantops.store import FILE
from plantops.symptoms import NOTE, OK, WRONG, Finding
from plantops.tracking import Tracker


def examine(start: Path, config_file: Path | None) -> list[Finding]:
    """Look at everything; a part that cannot be looked at is a finding, never an exception."""
    found = [_python()]
    try:
        config = load(find_root(start), config_file)
    except PlantopsError as error:
        return [*found, Finding("config", WRONG, error.message, error.hint)]
    found.append(Finding("config", OK, f"{config.root}"))
    for what, look in _LOOKS.items():
        try:
            for one in look(config):
                found.append(one)
        except PlantopsError as error:
            found.append(Finding(what, WRONG, error.message, error.hint))
        except Exception as error:  # noqa: BLE001 - whatever one part does, the others are looked at
            said = f"cannot be looked at: {type(error).__name__}: {error}"
            found.append(Finding(what, WRONG, said, "plantops check writes a report when it meets the same"))
    return found


def fix(start: Path, config_file: Path | None, console: Console) -> None:
    """Rebuild a lost memory, and clear what dead git and DVC processes left; says each thing done.

    Raises Busy during a run.
    """
    config = load(find_root(start), config_file)
    recover.mend(config, console)
    with lock.hold(config.state):
        if left := symptoms.left_lock(config.root):
            left.unlink(missing_ok=True)
            console.say(f"cleared: {left}", "green")
        for one in dvclocks.stale(config.root):
            if one.clear:
                one.clear()
                console.say(f"cleared: {one.says}", "green")


def _python() -> Finding:
    return Finding("python", OK, f"{sys.version.split()[0]} in {sys.prefix}")


def _parts(_: Config) -> Iterator[Finding]:
    lacks = [extra for extra in extras.MODULES if extras.missing(extra)]
    if lacks:
        said = f"without {', '.join(lacks)} of plantops[…]: enough where another machine does that"
        yield Finding("parts", NOTE, said, extras.command(lacks[-1]))
    else:
        yield Finding("parts", OK, "all of plantops is installed, training too")


def _git(config: Config) -> Iterator[Finding]:
    state = git.state(config.root)
    yield Finding("git", OK, f"{state.branch or 'detached'} at {state.short}")
    yield from symptoms.git_lock(config)


def _dvc(config: Config) -> Iterator[Finding]:
    dvc.check(config.root)
    training.check_params(config.root)
    yield Finding("dvc", OK, "initialised, dvc.yaml and params.yaml in order")
    for one in dvclocks.stale(config.root):
        yield Finding("dvc", WRONG if one.stops else NOTE, one.says, one.remedy)


def _remote(config: Config) -> Iterator[Finding]:
    if tried := roundtrip.tried(config.root):
        yield Finding("remote", OK, tried)
    else:
        yield Finding(
            "remote", NOTE, "no DVC remote: the photos lie on this machine alone", "dvc remote add -d NAME URL"
        )


def _data(config: Config) -> Iterator[Finding]:
    raw = dvc.raw_folder(config.root)
    classes = scan.classes(raw)
    if len(classes) < 2:
        said = f"{len(classes)} class folders in {raw.relative_to(config.root)}; two are needed"
        yield Finding("data", WRONG, said, "copy photos and dvc add them, or plantops sample")
        return
    with recall.look(config) as store:
        loose = scan.loose(config.root, raw, store, remember=False)
    for one in loose:
        said, _, command = one.what.rpartition(": dvc ")
        yield Finding("data", WRONG, said or one.what, f"dvc {command}" if said else "")
    if not loose:
        yield Finding("data", OK, f"{len(classes)} classes, all under DVC as they are")


def _disk(config: Config) -> Iterator[Finding]:
    free = shutil.disk_usage(config.root).free / 1e9
    enough = free >= config.disk.min_free_gb
    yield Finding("disk", OK if enough else WRONG, f"{free:.1f} GB free, {config.disk.min_free_gb:g} wanted", ROOM)


def _mlflow(config: Config) -> Iterator[Finding]:
    tracker = Tracker(config.root, config.mlflow)
    seen = tracker.ping()
    yield Finding("mlflow", OK, f"{seen}: {redacted(config.mlflow.tracking_uri)}")
    with recall.look(config) as store:
        current = store.in_service()
    if current and current.version and tracker.versions().get(current.digest) != current.version:
        said = f"{current.id} is not version {current.version} there: its records were removed, or it is another MLflow"
        yield Finding("mlflow", NOTE, said, "plantops run --force trains and registers it anew; else the next one is")


def _shared(config: Config) -> Iterator[Finding]:
    if seen := lease.look(config):
        yield Finding("shared", OK, f"the database answers; releasing: {seen.releasing or 'nobody'}")


def _memory(config: Config) -> Iterator[Finding]:
    if why := recall.lost(config, thorough=True):
        remedy = "plantops doctor --fix rebuilds it from the releases (every command that writes does)"
        yield Finding("memory", WRONG, f".plantops/{FILE} {why}", remedy)


def _state(config: Config) -> Iterator[Finding]:
    with recall.look(config) as store:
        last, current = store.last_run(), store.in_service()
    holder = lock.holder(config.state)
    yield Finding("run", OK, f"going on: {holder}" if holder else "none going on")
    if last and last.state == "running" and not holder:
        yield Finding("run", NOTE, f"run {last.id} died before its end", "plantops run")
    if current is None:
        yield Finding("model", NOTE, "nothing released yet", "plantops run")
        return
    try:
        Bundle.load(Shelf(config.models).release(current.id)).golden()
    except BadBundle as error:
        yield Finding("model", WRONG, f"{current.id}: {error}", "plantops rollback, or plantops run --force")
        return
    yield Finding("model", OK, f"{current.id} in service, its bundle whole")


def _api(config: Config) -> Iterator[Finding]:
    backend = deploy.get(config)
    with recall.look(config) as store:
        current = store.in_service()
    backend.preflight()
    running = backend.serving()
    if running is None:
        yield Finding("api", NOTE if current else OK, f"not running; it would answer on {backend.url}", "plantops up")
    elif current and running.release != current.id:
        said = f"{running.release} answers, but {current.id} should"
        yield Finding("api", WRONG, said, "plantops up")
    else:
        yield Finding("api", OK, f"{running.release} answers on {backend.url}")


_LOOKS: dict[str, Callable[[Config], Iterator[Finding]]] = {
    "parts": _parts,
    "git": _git,
    "dvc": _dvc,
    "remote": _remote,
    "data": _data,
    "disk": _disk,
    "mlflow": _mlflow,
    "shared": _shared,
    "memory": _memory,
    "run": _state,
    "api": _api,
    "docker": symptoms.docker,
    "kubernetes": symptoms.cluster,
    "ports": symptoms.doors,
    "prometheus": symptoms.scraped,
    "bind": symptoms.reached,
    "clock": symptoms.clock,
    "owner": symptoms.owners,
    "notify": symptoms.told,
}
