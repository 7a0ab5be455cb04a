"""The swarm backend: one service, whose tasks the engine replaces new before old, and takes back by itself.

A release is tried in a container of its own on this node. What the service is to run is in its labels: a switch that is
not settled is one that was cut short. HAProxy on this node has the public port and finds the tasks, wherever they run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from plantops import process
from plantops.config import Config
from plantops.deploy import image, probe, registry
from plantops.deploy.address import Address
from plantops.deploy.compose import engine, starting
from plantops.deploy.compose.engine import Container
from plantops.deploy.compose.front import Front
from plantops.deploy.compose.stack import API, GATEWAY
from plantops.deploy.protocol import Serving, Trial
from plantops.deploy.swarm import nodes
from plantops.deploy.swarm.places import Places
from plantops.deploy.swarm.service import Service, Wanted
from plantops.deploy.swarm.stack import SwarmStack
from plantops.deploy.switching import switch_to
from plantops.errors import SetupError, StepFailed
from plantops.shelf import release_of

if TYPE_CHECKING:
    from docker import DockerClient

_BEYOND_S = (
    45.0  # what the swarm may take for its own part of an update: a task that is never healthy is known after 15
)
_SEEN_S = 15.0
_GONE_S = 90.0
_LEFT_S = 75.0  # more than a task may take to end (stop_grace_period in docker/docker-compose.yml)


class Swarm:
    """The stack of one project in a swarm."""

    name = "swarm"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stack = SwarmStack(config)
        self._front = Front(config, self._stack, lambda: self._engine)
        self._service = Service(self._stack.service, config.root, lambda: self._engine)
        self._places = Places(self._front.gateway, self._stack.each, self._service)
        self._old: Wanted | None = None
        self._new: Wanted | None = None
        self._built: dict[str, str] = {}

    @cached_property
    def _engine(self) -> DockerClient:
        return engine.client()

    @property
    def public(self) -> Address:
        """Where clients on this machine reach the API."""
        return self._front.public

    @property
    def url(self) -> str:
        """Where clients on this machine reach the API, as a URL."""
        return self.public.url

    def preflight(self) -> None:
        """Raises SetupError when the swarm, the registry, a port or the disk would stop a deployment."""
        self.preflight_without_port()
        self._front.check_doors()

    def preflight_without_port(self) -> None:
        """The same where another backend of ours still holds the port."""
        self._stack.check_files()
        self._front.check()
        nodes.check(self._engine, self._config)
        self._service.check_name()

    def build(self, release: Path, say: Callable[[str], None]) -> str:
        """Build the release's image, and push it where a registry is named. Raises StepFailed."""
        name = release_of(release)
        built = image.build(self._engine, self._config, release, say)
        self._built[name] = built.id
        if not self._config.docker.registry:
            return built.sentence
        return f"{built.sentence}, pushed as {registry.push(self._engine, self._config, built.id, name, say)}"

    def start(self, release: Path) -> Trial:
        """Start a container apart from the service, healthy by its own door. Raises StepFailed."""
        name, key = release_of(release), self._stack.key.value
        build = image.to_start(self._engine, self._config, name, self._built.get(name, ""), bool(key))
        now = self._service.look()
        self._old = now.wanted if now else None
        self._new = Wanted(name, self._reference(name, build), build, f"{time.time():.3f}")
        self._end_trials()
        made = self._made(self._stack.run_apart(build))
        said = starting.healthy(self._engine, made, self._config.deploy.start_timeout_s, self._end_trials)
        return Trial(made.id, name, release, str(said["since"]), replace(made.door, key=key))

    def rehearse(self, release: Path) -> Trial:
        """What is tried is out of the way. HAProxy's image and file are looked at now: later is a gap."""
        try:
            self._stack.check_gateway(image.tag(self._config, release_of(release)))
            return self.start(release)
        except BaseException:
            self._leave_nothing()
            raise

    def take_over(self, trial: Trial) -> None:
        """HAProxy takes the public port, and the service begins: no registry is asked in the gap. Raises StepFailed."""
        self._front.check_doors()
        self.switch(trial)

    def try_golden(self, trial: Trial) -> float:
        """The largest difference of the trial's golden answers. Raises StepFailed."""
        return probe.golden(trial.address, trial.folder)

    def switch(self, trial: Trial) -> None:
        """Have the swarm replace its tasks, new before old, until each of them answers as the trial's release."""
        if self._new is None or self._new.release != trial.release:
            raise StepFailed(f"{trial.release} was not started here", "plantops up")
        self._run(self._new)
        self._end_trials()

    def back(self) -> None:
        """The old tasks again, new before old; where there were none, everything stops."""
        if self._old is None:
            self.down()
            return
        self._end_trials()
        self._run(self._old)
        self._rest(self._old)

    def serving_code(self) -> str:
        """Digest of the code in the image that the service runs."""
        now = self._service.look()
        return image.serving_code(self._engine, now.wanted.build) if now else ""

    def labelled(self) -> str | None:
        """The release that the image of the service names; None without a service."""
        now = self._service.look()
        return image.labelled(self._engine, now.wanted.build) if now else None

    def settle(self) -> list[str]:
        """Nobody goes back by himself from now on, not the engine either; the views follow, docker/.env last."""
        now = self._service.look()
        if now is None:
            raise StepFailed(f"there is no service {self._service.name}", "plantops up")
        image.keep(self._engine, image.tag(self._config, now.wanted.release), now.wanted.build)
        self._rest(now.wanted)
        image.write_code(self._config.root)
        self._stack.write(now.wanted.image)
        return self._front.outdated()

    def pages(self) -> dict[str, str]:
        """MLflow, Prometheus and Grafana, as far as they run."""
        return self._front.pages()

    def open_pages(self, say: Callable[[str], None]) -> dict[str, str]:
        """Start those that are wanted, until they answer; returns where they are. Raises StepFailed."""
        now = self._service.look()
        try:
            self._front.open_pages(now.wanted.image if now else image.latest(self._config), say)
        finally:
            if now:
                self._stack.write(now.wanted.image)  # Grafana may listen elsewhere now
        return self.pages()

    def built(self) -> set[str] | None:
        """The releases whose image is on this node."""
        return image.present(self._engine, self._config)

    def abandon(self, trial: Trial) -> None:
        """End a trial; where its tasks were begun already, the old ones come back."""
        self._end_trials()
        now = self._service.look()
        if now and self._new and now.wanted.since == self._new.since:
            self.back()
        elif now is None:
            self._leave_nothing()

    def serving(self) -> Serving | None:
        """What answers on the public port, as it says itself."""
        return self._front.serving(self._service.look() is not None)

    def agrees(self, release: Path) -> bool:
        """Whether all tasks are of this release and answer, and nothing is left of a switch that was cut short."""
        now, name = self._service.look(), release_of(release)
        build = image.served(self._engine, self._config, name)
        return (
            now is not None
            and now.whole
            and now.wanted.settled
            and now.replicas == self._config.deploy.replicas
            and (now.wanted.release, now.wanted.build) == (name, build)
            and build == image.known(self._engine, image.tag(self._config, name))
            and not self._trials()
            and self._stack.written(now.wanted.image)
            and self._front.gateway.answers()
            and self._places.releases() == [name] * now.replicas
        )

    def up(self, release: Path) -> None:
        """Serve this release, and nothing else."""
        if self.agrees(release):
            return
        self.preflight()
        name, now = release_of(release), self._service.look()
        build = image.served(self._engine, self._config, name)
        if not build:
            self.build(release, lambda _: None)
        self._end_trials()
        if now and build and now.wanted.runs(name, build, self._reference(name, build)):
            self._run(now.wanted)
        else:
            switch_to(self, release)
        self.settle()

    def logs_argv(self, service: str, follow: bool) -> list[str]:
        """The command that shows a service's log. Raises SetupError when the stack has no such service."""
        known = [API, GATEWAY, *self._stack.others]
        if service not in known:
            raise SetupError(f"the stack has no service {service}", f"plantops logs {' | '.join(known)}")
        return self._stack.logs_argv(service, follow)

    def down(self) -> list[str]:
        """Stop the stack; volumes stay."""
        there = self._service.look()
        running = [*([API] if there else []), *self._front.running()]
        if running or self._trials():
            self._remove_all()
        return [f"{name} ({self.url})" if name == API else name for name in running]

    def watch(self, seconds: float, look: Callable[[], None] = lambda: None) -> None:
        """Look at every replica for that long, and until the engine has done so, too. Raises StepFailed."""
        now = self._service.look()
        since = now.wanted.since if now else ""

        def both() -> None:
            self._service.kept(since)
            look()

        probe.watch(self.public, seconds, both, self._places.watched)
        process.wait_until(lambda: not self._updating(both), seconds + _SEEN_S)

    def metrics(self) -> str:
        """What all replicas say on `/metrics`, added up. Raises StepFailed when one says nothing."""
        return self._places.metrics()

    def _reference(self, release: str, build: str) -> str:
        """By what the nodes are told the image: its id here, or its digest in the registry, pushed if it never was."""
        if not self._config.docker.registry:
            return build
        known = registry.reference(self._engine, self._config, build)
        return known or registry.push(self._engine, self._config, build, release, lambda _: None)

    def _deploy(self, wanted: Wanted) -> None:
        self._service.check_name()
        self._stack.deploy(wanted.image, self._service.labels(wanted), nodes.home(self._engine))

    def _run(self, wanted: Wanted) -> None:
        """Have all tasks be of this, and have traffic. Raises StepFailed when that fails or takes too long."""
        self._front.have(wanted.image)
        if now := self._service.look():
            self._front.gateway.open_for(now.addresses)  # a switch that was cut short left some drained
        self._deploy(replace(wanted, settled=False))
        seconds = self._config.deploy.start_timeout_s + _BEYOND_S
        if not process.wait_until(lambda: self._arrived(wanted), seconds):
            now = self._service.look()
            lines = "".join(f"\n    {line}" for line in (now.failures(wanted.since) if now else []))
            states = ", ".join(one.state for one in now.standing) if now else "no service"
            late = f"the swarm did not bring up {wanted.release} within {seconds:g} s ({states}){lines}"
            raise StepFailed(late, f"docker service ps {self._service.name}")
        said: list[str] = []
        if not process.wait_until(lambda: self._answered(wanted, said), _SEEN_S):
            reached = ", ".join(said)
            raise StepFailed(f"HAProxy does not reach every replica of {wanted.release}: {reached}", "plantops up")

    def _rest(self, wanted: Wanted) -> None:
        """Leave it at that. Places that were drained are opened when those are gone who had them: whoever gets one next
        has traffic."""
        self._deploy(wanted.settle())
        process.wait_until(lambda: (now := self._service.look()) is None or not now.leaving, _LEFT_S)
        if now := self._service.look():
            self._front.gateway.open_for(now.addresses)

    def _arrived(self, wanted: Wanted) -> bool:
        return self._service.kept(wanted.since).whole

    def _answered(self, wanted: Wanted, said: list[str]) -> bool:
        """Whether HAProxy gives every task traffic and nothing else; ``said``: what these and the public port say."""
        now = self._service.kept(wanted.since)
        said[:] = self._places.releases()
        if said != [wanted.release] * now.replicas:
            return False
        self._front.gateway.drain_others(now.addresses)
        said.append(str(probe.serving(self.public).release))
        return said[-1] == wanted.release

    def _updating(self, check: Callable[[], None]) -> bool:
        check()
        now = self._service.look()
        return now is not None and now.update == "updating"

    def _trials(self) -> list[Container]:
        return engine.containers(self._engine, self._config.root, self._stack.name, API, apart=True)

    def _end_trials(self) -> None:
        for one in self._trials():
            engine.remove(self._engine, one, 0)

    def _made(self, name: str) -> Container:
        found = engine.container(self._engine, name)
        if found is None:
            raise StepFailed("docker compose started no new container", "docker ps -a")
        return found

    def _leave_nothing(self) -> None:
        """Where nothing of ours runs, not even a network stays."""
        if self._service.look() is None and not self._front.containers(GATEWAY):
            self._remove_all()

    def _remove_all(self) -> None:
        """The service, and when its tasks are gone from this node's network, the rest."""
        now = self._service.look()
        if now:
            self._service.remove()
        self._end_trials()
        named = now.wanted.image if now else image.latest(self._config)

        def gone() -> bool:
            self._stack.down(named)
            return not engine.network(self._engine, f"{self._stack.name}_default")

        # Compose leaves a network that a task on its way out is on still, and does not call that a failure.
        ended = process.wait_until(lambda: not self._service.lingers(), _GONE_S)
        if not (ended and process.wait_until(gone, _GONE_S, 0.5)):
            raise StepFailed("tasks of the API do not end", f"docker service ps {self._service.name}")


def connect(config: Config) -> Swarm:
    """The project's stack in a swarm."""
    return Swarm(config)
