"""What `plantops doctor` finds around a project: Docker, ports, who may reach them, the clock, owners, git's lock."""

from __future__ import annotations

import os
import shlex
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from plantops import deploy, notify, process, prometheus
from plantops.config import Config
from plantops.deploy import daemon, kubernetes, ports
from plantops.deploy.compose import engine
from plantops.deploy.swarm import nodes
from plantops.errors import SetupError
from plantops.lock import user
from plantops.shelf import Shelf
from plantops.tracking import reach

OK, NOTE, WRONG = "ok", "note", "wrong"
_STACKS = ("compose", "swarm")  # that have the pages in containers
_SKEW_S = 5.0  # what the clock of a network disk may be off
_OLD_S = 60.0  # a git that works holds its lock for seconds


@dataclass(frozen=True)
class Finding:
    """One thing looked at: ``state`` is ok, note or wrong; ``remedy`` is the command that mends it."""

    what: str
    state: str
    says: str
    remedy: str = ""


def docker(config: Config) -> Iterator[Finding]:
    """Engine, permission and Compose, where they may be used. For a cluster images are built here, without Compose."""
    if config.deploy.backend == "local":
        return
    try:
        found = engine.client()
        if config.deploy.backend != "kubernetes":
            engine.check_compose(config.root)
    except SetupError as error:
        if config.deploy.backend == "auto":
            said = f"{error.message}: with deploy.backend: auto the first deployment is one without containers then"
            yield Finding("docker", NOTE, said, error.hint)
        else:
            yield Finding("docker", WRONG, error.message, error.hint)
        return
    answering = "answers" if config.deploy.backend == "kubernetes" else "and Compose answer"
    yield Finding("docker", OK, f"engine {found.version()['Version']} {answering}")
    if config.deploy.backend == "swarm":
        nodes.check(found, config)
        count = len(nodes.able(found))
        yield Finding("swarm", OK, f"{count} node{'s' if count > 1 else ''} can run the API")


def cluster(config: Config) -> Iterator[Finding]:
    """The cluster, where one is to serve: kubectl, its context, and what it lets us do there."""
    if config.deploy.backend == "kubernetes":
        yield Finding("kubernetes", OK, kubernetes.connect(config).access())


def doors(config: Config) -> Iterator[Finding]:
    """The ports of the pages beside the API: whether they are ours or free; and what listens to more than this machine.

    The API's own port is looked at by the backend.
    """
    backend = deploy.get(config)
    ours = set(backend.pages())
    ours |= {name for name, notes in daemon.PAGES.items() if daemon.find(config.state / notes)}
    taken = []
    for name, (key, port) in _pages(config, backend.name).items():
        holder = ports.holder(port)
        if holder and name not in ours:
            taken.append(key)
            said = f"{key} {port} is taken by {holder}: plantops up cannot open its page there"
            yield Finding("ports", NOTE, said, f"stop it, or set {key} in config.yaml")
    if not taken:
        yield Finding("ports", OK, "of the pages beside the API are free, or theirs")
    for key, port in {"deploy.port": config.deploy.port, **dict(_pages(config, "compose").values())}.items():
        if _local(config, key) and ports.exposed(port):
            said = f"port {port} ({key}) is listened on for other machines, too, by {ports.holder(port)}"
            yield Finding("bind", NOTE, said, "stop it, or have a firewall keep others out")


def reached(config: Config) -> Iterator[Finding]:
    """What config.yaml opens to other machines."""
    if not _loopback(config.deploy.bind):
        where = f"the API listens on {config.deploy.bind}"
        if config.api.keys:
            said = f"{where}: keys and photos cross the network in the clear"
            yield Finding("bind", NOTE, said, "put TLS in front of it")
        else:
            said = f"{where}: anybody who reaches this machine can ask it"
            yield Finding("bind", NOTE, said, "api.keys (plantops key makes one), or deploy.bind: 127.0.0.1")
    if config.grafana.enabled and config.deploy.backend != "local" and not _loopback(config.grafana.bind):
        said = f"Grafana listens on {config.grafana.bind}: its password crosses the network in the clear"
        yield Finding("bind", NOTE, said, "grafana.bind: 127.0.0.1, or TLS in front of it")


def clock(config: Config) -> Iterator[Finding]:
    """Whether this machine's clock went back since the last release, and whether the disk's agrees with it."""
    now = datetime.now(UTC)
    made = [str(facts.get("created", "")) for facts, _ in Shelf(config.models).records()]
    if made and max(made) > now.isoformat(timespec="seconds"):
        said = f"a release was made at {max(made)}, and it is {now:%Y-%m-%dT%H:%M:%S} by this machine's clock"
        yield Finding("clock", WRONG, said, "timedatectl set-ntp true, or date -s")
        return
    with tempfile.TemporaryFile(dir=config.root) as trial:
        trial.write(b"now")
        trial.flush()
        skew = os.fstat(trial.fileno()).st_mtime - time.time()
    if abs(skew) > _SKEW_S:
        said = f"the disk's clock is {skew:+.0f} s off this machine's: changes may be seen late"
        yield Finding("clock", NOTE, said, "timedatectl set-ntp true, on both machines")
    else:
        yield Finding("clock", OK, f"{now:%Y-%m-%d %H:%M} UTC, as the disk has it")


def owners(config: Config) -> Iterator[Finding]:
    """Folders that we must write to and may not, as where two people work in one checkout."""
    for name in (".", ".git", ".dvc", ".plantops", "models"):
        folder = config.root / name
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            said = f"{folder} is of {_owner(folder)} and cannot be written"
            yield Finding("owner", WRONG, said, f"sudo chown -R {user()} {shlex.quote(str(folder))}")


def scraped(config: Config) -> Iterator[Finding]:
    """Whether a Prometheus would be started beside an API without containers."""
    if config.prometheus.enabled and deploy.get(config).name == "local":
        yield Finding("prometheus", OK, prometheus.page(config) or prometheus.program() or prometheus.ABSENT)


def told(config: Config) -> Iterator[Finding]:
    """Whether whoever is to be told of things can be: secrets that are there, hooks that may be run."""
    for label, error in notify.hindered(config):
        yield Finding("notify", NOTE, f"{label}: {error.message}", error.hint)


def _owner(folder: Path) -> str:
    try:
        return folder.owner()
    except KeyError:  # without a name on this machine, as in a container
        return f"user {folder.stat().st_uid}"


def git_lock(config: Config) -> Iterator[Finding]:
    """A lock that a git left which died: every other git waits for it."""
    if left := left_lock(config.root):
        said = f"{left} was left by a git that died: git add and commit refuse to work"
        yield Finding("git", WRONG, said, f"plantops doctor --fix, or rm {shlex.quote(str(left))}")


def left_lock(root: Path) -> Path | None:
    """git's lock of the index, where no git works here and it is no new one."""
    # Not always in ROOT/.git: the project may be a worktree, or a folder of a repository.
    asked = process.capture(["git", "rev-parse", "--show-toplevel", "--git-path", "index.lock"], root)
    if not asked.ok:
        return None
    top, named = asked.out.splitlines()
    found = root / named
    try:
        age = time.time() - found.stat().st_mtime
    except OSError:
        return None
    return found if age > _OLD_S and not process.working_in(Path(top), "git") else None


def _pages(config: Config, backend: str) -> dict[str, tuple[str, int]]:
    """The services beside the API: (key in config.yaml, port)."""
    found = {}
    if not reach.is_server(config.mlflow.tracking_uri):
        found["mlflow"] = ("mlflow.ui_port", config.mlflow.ui_port)
    if config.prometheus.enabled and (backend in _STACKS or prometheus.program()):
        found["prometheus"] = ("prometheus.port", config.prometheus.port)
    if backend in _STACKS and config.grafana.enabled:
        found["grafana"] = ("grafana.port", config.grafana.port)
    return found


def _local(config: Config, key: str) -> bool:
    """Whether config.yaml means a port for this machine alone."""
    opened = {"deploy.port": config.deploy.bind, "grafana.port": config.grafana.bind}
    return _loopback(opened.get(key, "127.0.0.1"))


def _loopback(address: str) -> bool:
    try:
        return socket.gethostbyname(address).startswith("127.")
    except OSError:
        return False
