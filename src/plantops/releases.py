"""Releases: list them, go back to one, start and stop what serves them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from plantops import deploy, extras, lease, lock, news, notify, process, prometheus, recall, recover
from plantops.config import Config
from plantops.console import Console
from plantops.deploy import daemon, ports, probe
from plantops.deploy.address import Address
from plantops.deploy.switching import switch_to
from plantops.errors import PlantopsError, SetupError, StepFailed, redacted
from plantops.shelf import Shelf
from plantops.steps import serving
from plantops.store import PERHAPS, Release, Store
from plantops.tracking import Tracker, reach
from plantops.views import show

TITLES = {"mlflow": "MLflow", "prometheus": "Prometheus", "grafana": "Grafana"}
_MLFLOW_START_S = 60.0


@dataclass(frozen=True)
class Listed:
    """A release as the list shows it: ``state`` is in service, previous, withdrawn, perhaps withdrawn, or empty.

    ``anyway``: user, reason and time, where a person released what the gate had not accepted.
    """

    release: Release
    state: str
    there: bool
    image: bool | None
    anyway: dict[str, str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            **self.release.__dict__,
            "state": self.state,
            "there": self.there,
            "image": self.image,
            "accepted_anyway": self.anyway,
        }


def listed(config: Config, store: Store, only: Sequence[Release] | None = None) -> list[Listed]:
    """All releases, newest first, or ``only`` some.

    ``there``: the bundle is on the shelf; ``image``: its image is built (or None).
    """
    current, previous, shelf = store.in_service(), store.previous(), Shelf(config.models)
    try:
        built = deploy.get(config).built()
    except PlantopsError:  # the engine is away: the list is worth something without it
        built = None

    def image(name: str) -> bool | None:
        return None if built is None else name in built

    return [
        Listed(
            one, _state(one, current, previous), shelf.release(one.id).is_dir(), image(one.id),
            shelf.accepted_anyway(one.id),
        )
        for one in (store.releases() if only is None else only)
    ]  # fmt: skip


def roll_back(
    config: Config, console: Console, name: str | None, why: Sequence[str] = (), leaving: str | None = None
) -> Release:
    """Switch to another release (the previous one by default); a newer one that is left is withdrawn.

    ``why`` it is done where nobody asked for it: then the one left is always withdrawn. ``leaving``: the release that
    was judged; raises SetupError where another one serves by then.

    No network, no training, and no waiting for MLflow: its aliases follow in a process of their own.
    """
    recover.mend(config, console)
    with recall.look(config) as store:
        seen = store.in_service()
    patience = 60 + config.deploy.watch_seconds  # a run that goes on may be watching the release that is to go
    with lock.hold(config.state, lock.SWITCH, patience), Store(config.state) as store:
        current = store.in_service()
        if leaving and (current is None or current.id != leaving):
            raise SetupError(f"{leaving} is not in service any more", "plantops releases")
        if name is None and seen and (now := store.release(seen.id)) and now.withdrawn:
            raise SetupError(f"another rollback was faster: {seen.id} is withdrawn already", "plantops releases")
        target = _target(store, name)
        backend, shelf = deploy.get(config), Shelf(config.models)
        if current and current.id == target.id:
            raise SetupError(f"{target.id} is in service already", "plantops releases")
        _switch(backend, shelf, target, console)
        by = serving(config, backend.serving_code())
        left = current.id if current and why else _withdrawn(store, current, target)
        reason = f"itself, back from {left}: {'; '.join(why)}" if why else f"rollback by {lock.user()}"
        store.put_in_service(target.id, by, reason, withdraw=left)
        _settle(backend, store, console)
        with lock.hold(config.state, lock.VIEWS, patience=60):
            shelf.produce(target.id)
        notify.post(config, console, news.rolled_back(config, target, current, backend.url, why))
    argv = [sys.executable, "-m", "plantops", "follow", "--config", str(config.file)]
    process.detach(argv, config.root, config.state / "logs" / "follow.log")
    return target


def follow(config: Config) -> list[str]:
    """Make production and the aliases in MLflow what the store says, and tell other machines; returns what to tell."""
    with Store(config.state) as store, lease.between(config) as shared:
        if current := store.in_service():
            shared.serves(current.id, store.served()[0].reason)
        return show(config, store, Tracker(config.root, config.mlflow), anew=True)


def up(config: Config, console: Console) -> None:
    """Start the API with the release in service, and the pages beside it, where they do not run yet."""
    recover.mend(config, console)
    with lock.hold(config.state, lock.SWITCH, patience=60), Store(config.state) as store:
        current, backend = store.in_service(), deploy.get(config)
        if current is None:
            console.say("there is no release yet: plantops run makes one", "yellow")
        else:
            folder = Shelf(config.models).release(current.id)
            if not backend.agrees(folder):
                backend.preflight()
                backend.up(folder)
                _settle(backend, store, console)
            console.say(
                f"API         {backend.url}  ({current.id}{', drawn sample data' if current.sample_data else ''})"
            )
        pages, failed = _opened(backend, console)
    own = {"mlflow": pages.get("mlflow") or _mlflow_up(config)}
    if backend.name == "local":
        own |= _prometheus_up(config, console)
    for name, url in {**own, **pages}.items():
        console.say(f"{TITLES[name]:<10}  {url}")
    if failed:
        raise failed


def _opened(backend: deploy.Backend, console: Console) -> tuple[dict[str, str], StepFailed | None]:
    """The pages that run, and why not all do."""
    try:
        return backend.open_pages(lambda sentence: console.say(f"  {sentence}", "grey")), None
    except StepFailed as error:
        return backend.pages(), error


def down(config: Config, console: Console) -> None:
    """Stop the API and the pages of this project; says what it stopped."""
    with lock.hold(config.state, lock.SWITCH, patience=60):
        stopped = deploy.get(config).down()
        if daemon.stop(config.state / daemon.MLFLOW):
            stopped.append(f"MLflow on http://127.0.0.1:{config.mlflow.ui_port}")
        if prometheus.down(config):
            stopped.append(f"Prometheus on http://127.0.0.1:{config.prometheus.port}")
    for one in stopped or ["nothing was running"]:
        console.say(f"stopped {one}" if stopped else one)


def restart(config: Config, console: Console) -> Release:
    """Start the API anew without a gap: another worker or container of the release in service, and then it alone."""
    recover.mend(config, console)
    with lock.hold(config.state, lock.SWITCH, patience=60), Store(config.state) as store:
        current, backend = store.in_service(), deploy.get(config)
        if current is None:
            raise SetupError("there is no release yet", "plantops run")
        if backend.serving() is None:
            raise SetupError("the API is not running", "plantops up")
        _switch(backend, Shelf(config.models), current, console)
        _settle(backend, store, console)
        return current


def logs(config: Config, service: str, follow: bool) -> NoReturn:
    """Become the program that shows the log of a service."""
    process.become(deploy.get(config).logs_argv(service, follow), config.root)


def mlflow_page(config: Config, backend: deploy.Backend) -> str | None:
    """Where MLflow's pages are now; None when they are not running."""
    if reach.is_server(config.mlflow.tracking_uri):
        return redacted(config.mlflow.tracking_uri)
    running = daemon.find(config.state / daemon.MLFLOW)
    return f"http://127.0.0.1:{config.mlflow.ui_port}" if running else backend.pages().get("mlflow")


def _mlflow_up(config: Config) -> str:
    """Start MLflow's pages unless they run, or a server has them; returns where they are."""
    url, pid_file = f"http://127.0.0.1:{config.mlflow.ui_port}", config.state / daemon.MLFLOW
    tracker = Tracker(config.root, config.mlflow)
    argv = tracker.ui_argv(config.mlflow.ui_port)
    if argv is None:
        return redacted(config.mlflow.tracking_uri)
    if daemon.find(pid_file) is None:
        extras.need(extras.RELEASE, "MLflow's pages, the API runs without them:")
        if obstacle := ports.obstacle("127.0.0.1", config.mlflow.ui_port):
            raise SetupError(f"MLflow's pages: {obstacle}", "stop it, or set mlflow.ui_port in config.yaml")
        log = config.state / "logs" / "mlflow.log"
        daemon.start(argv, config.root, pid_file, log, tracker.ui_environment())
        _wait_for(config, url, pid_file, log)
    return url


def _prometheus_up(config: Config, console: Console) -> dict[str, str]:
    """Start the one on the PATH; what stands in its way is said, and fails nothing."""
    try:
        url = prometheus.up(config, lambda sentence: console.say(f"  {sentence}", "grey"))
    except StepFailed as error:
        console.error(error)
        url = None
    return {"prometheus": url} if url else {}


def _wait_for(config: Config, url: str, pid_file: Path, log: Path) -> None:
    """Until MLflow answers. Raises StepFailed with its last lines when it ends instead."""
    page = Address("127.0.0.1", config.mlflow.ui_port)
    process.wait_until(lambda: probe.answers(page) or daemon.find(pid_file) is None, _MLFLOW_START_S, 0.2)
    if probe.answers(page):
        return
    last = "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-10:])
    raise StepFailed(f"MLflow did not answer on {url} within {_MLFLOW_START_S:g} s:\n{last}", f"less {log}")


def _withdrawn(store: Store, current: Release | None, target: Release) -> str | None:
    """The release to be withdrawn: the one left, when the way goes back; going forward withdraws nothing."""
    order = [one.id for one in store.releases()]
    return current.id if current and order.index(current.id) < order.index(target.id) else None


def _target(store: Store, name: str | None) -> Release:
    if name is None:
        previous = store.previous()
        if previous is None:
            raise SetupError("there is no earlier release to go back to", "plantops releases")
        return previous
    found = store.release(name)
    if found is None:
        raise SetupError(f"no release, or more than one, begins with {name}", "plantops releases")
    return found


def _switch(backend: deploy.Backend, shelf: Shelf, target: Release, console: Console) -> None:
    folder = shelf.release(target.id)
    if not folder.is_dir():
        raise SetupError(f"the bundle of {target.id} is gone from {shelf.releases}", "plantops releases")
    built = backend.built()
    if built is not None and target.id not in built:
        console.say(f"  the image of {target.id} is not there: building it from its bundle", "yellow")
        backend.build(folder, console.log)
    switch_to(backend, folder)


def _settle(backend: deploy.Backend, store: Store, console: Console) -> None:
    """What was switched to stays."""
    deploy.remember(store, backend.name)
    for sentence in backend.settle():
        console.say(f"  {sentence}", "yellow")
    # Else what stands beside the API stays as it is: going back waits for nobody, and for no network.
    if deploy.moves(backend) and (failed := _opened(backend, console)[1]):
        console.error(failed)


def _state(one: Release, current: Release | None, previous: Release | None) -> str:
    if current and one.id == current.id:
        return "in service"
    if one.withdrawn:
        return "perhaps withdrawn" if one.withdrawn == PERHAPS else "withdrawn"
    return "previous" if previous and one.id == previous.id else ""
