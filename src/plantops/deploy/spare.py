"""Images that no release needs any more, and what each would free."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plantops.config import Config
from plantops.deploy import image
from plantops.deploy.sdk import speaking

if TYPE_CHECKING:
    from docker import DockerClient

_RELEASE = "org.plantops.release"
_NAMELESS = "<none>:<none>"


@dataclass(frozen=True)
class Spare:
    """An image by its tag, or by its id when it has lost its name; ``size``: bytes that it shares with no other."""

    name: str
    release: str
    size: int

    @property
    def shown(self) -> str:
        """What a person reads."""
        return f"{self.release} (an earlier build)" if self.name.startswith("sha256:") else self.name


def find(client: DockerClient, config: Config, old: Collection[str], known: Collection[str]) -> list[Spare]:
    """The images of the releases ``old``, and builds of ``known`` releases that a newer build took the name from.

    Only images that no container uses, not even a stopped one. Raises StepFailed.
    """
    with speaking():
        listed = client.df()["Images"] or []
    found = []
    for one in listed:
        release = (one["Labels"] or {}).get(_RELEASE)
        tags = [tag for tag in one["RepoTags"] or [] if tag != _NAMELESS]
        if release is None or one["Containers"]:
            continue
        own = one["Size"] - max(0, one["SharedSize"])
        if not tags and release in known:
            found.append(Spare(one["Id"], release, own))
        elif (name := image.tag(config, release)) in tags and release in old:
            found.append(Spare(name, release, own if tags == [name] else 0))
    return found
