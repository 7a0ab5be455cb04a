"""Images that no release needs any more, and what each would free."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plantops.config import Config
from plantops.deploy import image, registry
from plantops.deploy.sdk import speaking

if TYPE_CHECKING:
    from docker import DockerClient

_RELEASE = "org.plantops.release"
_NAMELESS = "<none>:<none>"


@dataclass(frozen=True)
class Spare:
    """An image by its tag, or by its id when it has lost its name; ``size``: bytes that no other image needs."""

    name: str
    release: str
    size: int

    @property
    def shown(self) -> str:
        """What a person reads."""
        return f"{self.release} (another build)" if self.name.startswith("sha256:") else self.name


def find(client: DockerClient, config: Config, old: Collection[str], known: Collection[str]) -> list[Spare]:
    """The images of the releases ``old``, and builds of ``known`` releases that another build has the name of.

    Only images that no container uses, not even a stopped one. Raises StepFailed.
    """
    with speaking():
        images = sorted(client.api.images(), key=lambda one: str(one["Id"]))
        used = {one["ImageID"] for one in client.api.containers(all=True)}
        going = [(one, names) for one in images if one["Id"] not in used and (names := _names(config, one, old, known))]
        gone = {one["Id"] for one, names in going if {*_tags(one)} <= {*names}}
        kept = [_steps(client, one["Id"]) for one in images if one["Id"] not in gone]
        there = {step for steps in kept for step in steps}
        found = []
        for one, names in going:
            steps = _steps(client, one["Id"])
            own = sum(size for step, size in steps.items() if step not in there)
            there.update(steps)  # what two of them share is counted once, and so is one of two names
            found += [Spare(name, one["Labels"][_RELEASE], 0 if place else own) for place, name in enumerate(names)]
    return found


def _names(config: Config, one: dict[str, Any], old: Collection[str], known: Collection[str]) -> list[str]:
    """By what names an image is to be removed; none when it stays."""
    release, tags = (one["Labels"] or {}).get(_RELEASE, ""), _tags(one)
    if not tags and release in known:
        return [str(one["Id"])]
    ours = [image.tag(config, release)]
    if config.docker.registry:
        ours.append(f"{registry.listed(config)}:{release}")
    return [name for name in ours if name in tags and release in old]


def _tags(one: dict[str, Any]) -> list[str]:
    return [tag for tag in one["RepoTags"] or [] if tag != _NAMELESS]


def _steps(client: DockerClient, name: str) -> dict[int, int]:
    """The steps that made an image, each with all before it: bytes by an identity that images share as they share it.

    The engine's own "shared size" will not do: its older builder keeps an image of every step, which shares it all.
    """
    from docker.errors import NotFound

    found: dict[int, int] = {}
    identity = 0
    try:
        steps = client.api.history(name)
    except NotFound:  # removed meanwhile
        return found
    for step in reversed(steps):
        identity = hash((identity, step["Created"], step["CreatedBy"], step["Size"]))
        found[identity] = int(step["Size"])
    return found
