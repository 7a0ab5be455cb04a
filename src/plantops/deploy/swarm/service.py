"""The API's service in the swarm, through the engine's SDK: what it is to run, and what its tasks do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plantops.deploy.sdk import speaking
from plantops.deploy.swarm.stack import BUILD, RELEASE, ROOT, SETTLED, SINCE
from plantops.errors import SetupError, StepFailed

if TYPE_CHECKING:
    from docker import DockerClient


@dataclass(frozen=True)
class Wanted:
    """What the service is to run. ``image``: its reference, ``build``: its id here. Another ``since``: other tasks.

    ``settled``: nobody is to go back to what was there before, not even the engine by itself.
    """

    release: str
    image: str
    build: str
    since: str
    settled: bool = False

    @property
    def labels(self) -> dict[str, str]:
        """As the service carries it."""
        return {RELEASE: self.release, BUILD: self.build, SINCE: self.since, SETTLED: str(int(self.settled))}

    def runs(self, release: str, build: str, image: str) -> bool:
        """Whether it is this build of the release, by this reference: an id says nothing to a node that has joined."""
        return (self.release, self.build, self.image) == (release, build, image)

    def settle(self) -> Wanted:
        """The same, for good."""
        return replace(self, settled=True)


@dataclass(frozen=True)
class Task:
    """One replica as the engine has it: ``wanted`` to run or on its way out; ``addresses`` on its networks."""

    id: str
    node: str
    wanted: bool
    state: str
    since: str
    error: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Look:
    """The service at one moment; ``update``: how its last update stands, ``said``: what the engine says of it."""

    wanted: Wanted
    replicas: int
    update: str
    said: str
    tasks: tuple[Task, ...]

    @property
    def standing(self) -> list[Task]:
        """The tasks that are to run."""
        return [one for one in self.tasks if one.wanted]

    @property
    def leaving(self) -> bool:
        """Whether one still runs that is not to."""
        return any(one.state == "running" and not one.wanted for one in self.tasks)

    @property
    def addresses(self) -> set[str]:
        """Of the tasks that are to run, on all their networks."""
        return {address for one in self.standing for address in one.addresses}

    @property
    def whole(self) -> bool:
        """Whether all that are to run do, by what is wanted, and no others."""
        there = self.standing
        return len(there) == self.replicas and all(
            one.state == "running" and one.since == self.wanted.since for one in there
        )

    def failures(self, since: str) -> list[str]:
        """What the engine says of tasks that ended by themselves, each once."""
        return list(dict.fromkeys(one.error for one in self.tasks if one.since == since and one.error))


class Service:
    """The service of the project at ``root``, by its name. One of another project that has that name is not ours."""

    def __init__(self, name: str, root: Path, client: Callable[[], DockerClient]) -> None:
        self.name = name
        self._root = str(root.resolve())
        self._client = client

    def look(self) -> Look | None:
        """How it stands; None where there is none. Raises StepFailed."""
        with speaking():
            found = [one for one in self._named() if one["Spec"]["Labels"].get(ROOT) == self._root]
            if not found:
                return None
            tasks = self._client().api.tasks(filters={"service": self.name})
        spec, update = found[0]["Spec"], found[0].get("UpdateStatus") or {}
        return Look(
            _wanted(spec), int(spec["Mode"]["Replicated"]["Replicas"]), str(update.get("State") or ""),
            str(update.get("Message") or ""), tuple(_task(one) for one in tasks),
        )  # fmt: skip

    def _named(self) -> list[dict[str, Any]]:
        """Services of that name; none where the engine has left its swarm, or was never in one."""
        from docker.errors import APIError

        client = self._client()
        try:
            found = client.api.services(filters={"name": self.name})
        except APIError:
            if client.info()["Swarm"]["LocalNodeState"] == "inactive":
                return []
            raise
        return [one for one in found if one["Spec"]["Name"] == self.name]

    def check_name(self) -> None:
        """Raise SetupError where a service of another project has the name: the engine would make it ours."""
        with speaking():
            roots = [str(one["Spec"]["Labels"].get(ROOT, "")) for one in self._named()]
        other = next((one for one in roots if one != self._root), None)
        if other is not None:
            said = f"the swarm has a service {self.name} that runs from {other or 'elsewhere'}"
            raise SetupError(said, "give this one another project: in config.yaml")

    def labels(self, wanted: Wanted) -> dict[str, str]:
        """What the service carries, so that :meth:`look` finds it and what it is to run."""
        return {**wanted.labels, ROOT: self._root}

    def remove(self) -> None:
        """Remove it; gone already is as good."""
        from docker.errors import NotFound

        with speaking():
            try:
                self._client().api.remove_service(self.name)
            except NotFound:
                return

    def lingers(self) -> bool:
        """Whether this node still has a container of it, which may be on its way out."""
        with speaking():
            own = {"label": f"com.docker.swarm.service.name={self.name}"}
            return bool(self._client().api.containers(all=True, filters=own))

    def kept(self, since: str) -> Look:
        """How the update to ``since`` stands. Raises StepFailed where the engine took it back, or began to."""
        now = self.look()
        if now is None:
            raise StepFailed(f"the service {self.name} is gone", "plantops up")
        if now.wanted.since != since or now.update == "paused":
            lines = "".join(f"\n    {line}" for line in now.failures(since))
            raise StepFailed(f"the swarm took the update back: {now.said}{lines}", f"docker service ps {self.name}")
        return now


def _wanted(spec: dict[str, Any]) -> Wanted:
    labels = spec["Labels"]
    image = spec["TaskTemplate"]["ContainerSpec"]["Image"]
    return Wanted(
        labels.get(RELEASE, ""), image, labels.get(BUILD, ""), labels.get(SINCE, ""), labels.get(SETTLED) == "1"
    )


def _task(one: dict[str, Any]) -> Task:
    status, labels = one["Status"], one["Spec"]["ContainerSpec"].get("Labels") or {}
    networks = one.get("NetworksAttachments") or []
    inside = [address.partition("/")[0] for each in networks for address in each.get("Addresses") or []]
    return Task(
        one["ID"], one.get("NodeID", ""), one["DesiredState"] == "running", status["State"], labels.get(SINCE, ""),
        status.get("Err", ""), tuple(inside),
    )  # fmt: skip
