"""The compose backend: a second container beside the first, traffic moved by HAProxy, and then the first one goes.

In the steady state the service has one container, and docker/.env names its image: so whatever compose does when
it is typed by hand, or after a reboot, serves the release in service.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from plantops.config import Config
from plantops.deploy import image, probe
from plantops.deploy.address import Address
from plantops.deploy.compose import engine, starting
from plantops.deploy.compose.engine import Container
from plantops.deploy.compose.front import Front
from plantops.deploy.compose.stack import API, GATEWAY, Stack
from plantops.deploy.protocol import Serving, Trial
from plantops.deploy.switching import switch_to
from plantops.errors import SetupError, StepFailed
from plantops.shelf import release_of

if TYPE_CHECKING:
    from docker import DockerClient

_PATIENCE_S = 60


class Compose:
    """The Docker stack of one project."""

    name = "compose"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stack = Stack(config)
        self._front = Front(config, self._stack, lambda: self._engine)
        self._gateway = self._front.gateway
        self._old: Container | None = None
        self._drained = False
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
        """Raises SetupError when the engine, Compose, a port or the disk would stop a deployment."""
        self.preflight_without_port()
        self._front.check_doors()

    def preflight_without_port(self) -> None:
        """The same where another backend of ours still holds the port."""
        self._front.check()

    def build(self, release: Path, say: Callable[[str], None]) -> str:
        """Build the release's image. Raises StepFailed with the builder's last lines."""
        built = image.build(self._engine, self._config, release, say)
        self._built[release_of(release)] = built.id
        return built.sentence

    def start(self, release: Path) -> Trial:
        """Start a container beside the one that serves, healthy by its own door. Raises StepFailed."""
        name, tag = release_of(release), self._tag(release)
        build = image.to_start(self._engine, self._config, name, self._built.get(name, ""), bool(self._stack.key.value))
        self._old = self._survivor()
        there = self._containers(API)
        known = {one.id for one in there}
        if self._gateway.answers():
            self._gateway.hold_newcomers({one.inside for one in there if one.inside})
        with image.lent(self._engine, tag, build):
            self._stack.add_api(tag, len(known) + 1)
        made = next((one for one in self._containers(API) if one.id not in known), None)
        if made is None:
            raise StepFailed("docker compose started no new container", "docker compose ps")
        patience_s = self._config.deploy.start_timeout_s
        said = starting.healthy(self._engine, made, patience_s, lambda: self._end(made))
        door = replace(made.door, key=self._stack.key.value)
        return Trial(made.id, name, release, str(said["since"]), door)

    def rehearse(self, release: Path) -> Trial:
        """A container without HAProxy is out of the way. HAProxy's image and file are looked at now: later is a gap."""
        tag = self._tag(release)
        try:
            self._stack.check_gateway(tag)
            return self.start(release)
        except BaseException:
            self._leave_nothing(tag)
            raise

    def take_over(self, trial: Trial) -> None:
        """HAProxy takes the public port, and the rehearsed container the traffic. Raises StepFailed."""
        self.preflight()
        self.switch(trial)

    def try_golden(self, trial: Trial) -> float:
        """The largest difference of the trial's golden answers. Raises StepFailed."""
        return probe.golden(trial.address, trial.folder)

    def switch(self, trial: Trial) -> None:
        """Open HAProxy to the trial and drain the old one to its last request; it stands by."""
        made = self._container(trial)
        self._front.have(made.image)
        self._gateway.open(made.inside)
        self._drain_but(made)
        probe.prove(self.public, trial)

    def back(self) -> None:
        """The old container takes the traffic again; where there was none, everything stops."""
        if self._old is None:
            self.down()
            return
        self._gateway.open(self._old.inside)
        self._drain_but(self._old)
        self._keep_only(self._old)

    def serving_code(self) -> str:
        """Digest of the code in the image that has the traffic."""
        current = self._survivor()
        return image.serving_code(self._engine, current.image_id) if current else ""

    def labelled(self) -> str | None:
        """The release that the image of the container with the traffic names; None when none has it."""
        current = self._survivor()
        return image.labelled(self._engine, current.image_id) if current else None

    def settle(self) -> list[str]:
        """Let go of every container but the one with the traffic; the views of it follow.

        docker/.env comes last of them: what it says, :meth:`agrees` takes for done.
        """
        current = self._survivor()
        if current is None:
            raise StepFailed("no container of the API has the traffic", "plantops up")
        image.keep(self._engine, current.image, current.image_id)
        self._keep_only(current)
        image.write_code(self._config.root)
        self._stack.write(current.image)
        return self._front.outdated()

    def pages(self) -> dict[str, str]:
        """MLflow, Prometheus and Grafana, as far as they run."""
        return self._front.pages()

    def open_pages(self, say: Callable[[str], None]) -> dict[str, str]:
        """Start those that are wanted, until they answer; returns where they are. Raises StepFailed."""
        current = self._survivor()
        try:
            self._front.open_pages(current.image if current else image.latest(self._config), say)
        finally:
            if current:
                self._stack.write(current.image)  # Grafana may listen elsewhere now
        return self.pages()

    def built(self) -> set[str] | None:
        """The releases whose image is there."""
        return image.present(self._engine, self._config)

    def abandon(self, trial: Trial) -> None:
        """End a trial; where it has the traffic already, take that back first."""
        made = engine.container(self._engine, trial.id)
        if made is None:
            return
        if self._old is not None and self._gateway.answers() and self._survivor() == made:
            self.back()
            return
        self._end(made)
        if not self._gateway.answers():
            self._leave_nothing(made.image)

    def _end(self, made: Container) -> None:
        """Remove a container that was tried. The old one serves before that: the new one may take its time to end."""
        if self._old is not None and self._gateway.answers():
            self._gateway.resume(self._old.inside)
        self._remove(made)
        self._open_places()

    def _leave_nothing(self, tag: str) -> None:
        """Where no container of ours runs, not even a network stays."""
        if not self._containers(GATEWAY) and not self._containers(API):
            self._stack.down(tag)

    def serving(self) -> Serving | None:
        """What answers on the public port, as it says itself."""
        return self._front.serving(bool(self._containers(API)))

    def agrees(self, release: Path) -> bool:
        """Whether one container of this release has the traffic, and everything beside it says so."""
        running, name = self._containers(API), release_of(release)
        slots = self._gateway.slots() if self._gateway.answers() else []
        return (
            len(running) == 1
            and running[0].running
            and running[0].image == self._tag(release)
            and running[0].image_id == image.served(self._engine, self._config, name)
            and running[0].image_id == image.known(self._engine, self._tag(release))
            and [slot.address for slot in slots if slot.up] == [running[0].inside]
            and not any(slot.held for slot in slots)
            and self._stack.written(running[0].image)
        )

    def up(self, release: Path) -> None:
        """Serve this release, and nothing else."""
        tag = self._tag(release)
        if self.agrees(release):
            return
        self.preflight()
        build = image.served(self._engine, self._config, release_of(release))
        if not build:
            self.build(release, lambda _: None)
        there = [one for one in self._containers(API) if one.running and (one.image, one.image_id) == (tag, build)]
        if there and probe.answers(there[-1].door) and self._found(there[-1]):
            self._gateway.open(there[-1].inside)
            self._drain_but(there[-1])
        else:
            switch_to(self, release)
        self.settle()

    def _found(self, one: Container) -> bool:
        """Whether HAProxy finds it. An engine that has left a swarm does not know the names of what runs any more."""
        self._front.have(one.image)
        return self._gateway.finds(one.inside)

    def logs_argv(self, service: str, follow: bool) -> list[str]:
        """The command that shows a service's log. Raises SetupError when the stack has no such service."""
        known = [API, GATEWAY, *self._stack.others]
        if service not in known:
            raise SetupError(f"the stack has no service {service}", f"plantops logs {' | '.join(known)}")
        return self._stack.logs_argv(service, follow)

    def down(self) -> list[str]:
        """Stop the stack; volumes stay."""
        running = [*([API] if self._containers(API) else []), *self._front.running()]
        if not running:
            return []
        current = self._survivor()
        self._stack.down(current.image if current else image.latest(self._config))
        return [f"{name} ({self.url})" if name == API else name for name in running]

    def watch(self, seconds: float, look: Callable[[], None] = lambda: None) -> None:
        """Look at the public port for that long. Raises StepFailed when what it says or does is wrong."""
        known = {one.id: one.restarts for one in self._containers(API)}

        def both() -> None:
            self._all_running(known)
            look()

        probe.watch(self.public, seconds, both)

    def metrics(self) -> str:
        """What `/metrics` says on the public port. Raises StepFailed when it says nothing."""
        return probe.metrics(self.public)

    def _tag(self, release: Path) -> str:
        return image.tag(self._config, release_of(release))

    def _containers(self, service: str) -> list[Container]:
        return self._front.containers(service)

    def _container(self, trial: Trial) -> Container:
        found = engine.container(self._engine, trial.id)
        if found is None:
            raise StepFailed(f"the container of {trial.release} is gone", "docker ps -a")
        return found

    def _survivor(self) -> Container | None:
        """The container that has the traffic; without HAProxy, the one that runs longest."""
        running = [one for one in self._containers(API) if one.running]
        if self._gateway.answers():
            up = [slot.address for slot in self._gateway.slots() if slot.up]
            running = [one for one in running if one.inside in up]
        return running[0] if running else None

    def _drain_but(self, one: Container) -> None:
        self._drained = self._gateway.only(one.inside, self._config.serve.request_timeout_s)

    def _keep_only(self, current: Container) -> None:
        for one in self._containers(API):
            if one.id != current.id:
                engine.remove(self._engine, one, 0 if self._drained else _PATIENCE_S)
        self._open_places()

    def _open_places(self) -> None:
        if self._gateway.answers():
            self._gateway.open_for({one.inside for one in self._containers(API)})

    def _remove(self, one: Container) -> None:
        engine.remove(self._engine, one, _PATIENCE_S)

    def _all_running(self, known: dict[str, int]) -> None:
        """Raise StepFailed when a container died. Asked of the engine: HAProxy has clients wait for a while then."""
        for one in self._containers(API):
            if not one.running or one.restarts > known.get(one.id, 0):
                lines = "".join(f"\n    {line}" for line in engine.last_lines(self._engine, one))
                raise StepFailed(f"the container of {one.image} died under watch; it said last:{lines}")


def connect(config: Config) -> Compose:
    """The Docker stack of a project."""
    return Compose(config)


def available(config: Config) -> bool:
    """Whether an engine with Compose answers here."""
    try:
        engine.client()
        engine.check_compose(config.root)
    except SetupError:
        return False
    return True
