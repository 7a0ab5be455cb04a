"""`plantops uninstall`: lists what plantops left on this machine for a project, asks, and removes it.

Photos, models, MLflow's records, git and its files stay, and so do backups and what the API kept for the inbox.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from plantops import deploy, lock, recall, releases, service, whole
from plantops.config import Config
from plantops.console import Console
from plantops.deploy import daemon, left
from plantops.deploy.compose import engine
from plantops.errors import SetupError
from plantops.shelf import Shelf
from plantops.watch import heartbeat

_KEPT = {"backups", "feedback"}
_MODELS = ("models", "mlruns", "metrics", "plots", "reports")


@dataclass(frozen=True)
class Part:
    """One thing to remove."""

    what: str
    says: str
    remove: Callable[[], None]


def uninstall(config: Config, console: Console, models: bool, ask: Callable[[str], bool]) -> None:
    """List, ask, remove. ``models``: models and records of runs, too.

    Raises SetupError where nobody said yes or watch runs without a unit, Busy while a run is going.
    """
    if not service.path(config).is_file() and (beat := heartbeat.alive(config.state)):
        raise SetupError(f"plantops watch runs here (process {beat.pid}) and would begin anew", f"kill {beat.pid}")
    parts = list(_parts(config, console, models))
    if not parts:
        console.say("there is nothing of plantops outside of git, data and models here")
        return
    for one in parts:
        console.say(f"  {one.what:<10} {one.says}")
    staying = ["photos and DVC's cache", "git and its files", *([] if models else ["models and MLflow's records"])]
    console.say(f"  stays: {', '.join(staying)}, backups, kept photos", "grey")
    if not ask(f"Remove {len(parts)} thing{'s' if len(parts) > 1 else ''}?"):
        raise SetupError("nothing was removed", "plantops uninstall --yes does it without asking")
    with lock.hold(config.state):
        for one in parts:
            one.remove()
            console.say(f"removed: {one.what} {one.says}", "green")


def _parts(config: Config, console: Console, models: bool) -> Iterator[Part]:
    """In the order in which they go: who starts others first, what others use last."""
    if service.path(config).is_file():
        yield Part("service", str(service.path(config)), lambda: _say(console, service.uninstall(config)))
    if running := _running(config):
        yield Part("running", running, lambda: releases.down(config, console))
    yield from _docker(config)
    for name in sorted(one.name for one in config.state.glob("*") if one.name not in _KEPT):
        path = config.state / name
        yield Part("state", f".plantops/{name} ({_size(path):,.1f} MB)", partial(_remove, path))
    for name in _MODELS if models else ():
        if (config.root / name).is_dir():
            path = config.root / name
            yield Part("models", f"{name}/ ({_size(path):,.1f} MB)", partial(_remove, path))


def _running(config: Config) -> str:
    """What answers now, in words."""
    backend = deploy.get(config)
    serving = backend.serving()
    own = [name for name, notes in daemon.PAGES.items() if daemon.find(config.state / notes)]
    pages = [*backend.pages(), *own]
    api = [f"the API on {backend.url}"] if serving else []
    return ", ".join([*api, *dict.fromkeys(pages)])


def _docker(config: Config) -> Iterator[Part]:
    """Containers, volumes and images of this project, where it was ever served by Docker and the engine answers."""
    if not (config.root / "docker/.env").is_file():
        return
    client = engine.client()
    with recall.look(config) as store:
        known = {one.id for one in store.releases()} | {facts["release"] for facts, _ in Shelf(config.models).records()}
    for one in left.find(client, config, known):
        yield Part(one.kind, one.name, one.remove)
    env = config.root / "docker/.env"
    yield Part("state", "docker/.env", partial(_remove, env))


def _say(console: Console, lines: Iterator[str]) -> None:
    for line in lines:
        console.say(f"    {line}", "grey")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        whole.vanish(path)
    else:
        path.unlink(missing_ok=True)


def _size(path: Path) -> float:
    """MB."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(one.lstat().st_size for one in files if not one.is_dir()) / 1e6
