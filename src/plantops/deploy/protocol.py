"""What every backend can do. New before old: start, try, switch, watch, and only then let the old one go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from plantops.deploy.address import Address


@dataclass(frozen=True)
class Trial:
    """A release that runs beside the one in service, without traffic. ``since`` tells it from another of its kind."""

    id: str
    release: str
    folder: Path
    since: str
    address: Address


@dataclass(frozen=True)
class Serving:
    """What answers on the public port, as it says itself; ``status`` is healthy, starting or failed.

    ``drift``: how its photos differ from what it learned from, in words; None where it cannot tell.
    """

    release: str | None
    digest: str | None
    status: str
    reason: str | None
    since: str
    pid: int
    url: str
    sample_data: bool | None
    drift: tuple[str, ...] | None = None


class Backend(Protocol):
    """One way of serving. Only one caller at a time (the run lock sees to it)."""

    name: str

    @property
    def url(self) -> str:
        """Where clients on this machine reach the API."""

    def preflight(self) -> None:
        """Look for what would stop a deployment, before any work. Raises SetupError."""

    def build(self, release: Path, say: Callable[[str], None]) -> str:
        """Make what is to be started from the release's folder; returns a sentence. Raises StepFailed."""

    def start(self, release: Path) -> Trial:
        """Start it beside the old one, healthy on a private address. Raises StepFailed, the old one untouched."""

    def try_golden(self, trial: Trial) -> float:
        """The largest difference of its golden answers over HTTP. Raises StepFailed when it is too large."""

    def switch(self, trial: Trial) -> None:
        """Move the traffic to it, proven through the public port; the old one stands by. Raises StepFailed."""

    def back(self) -> None:
        """Move the traffic back to the old one; without an old one, nothing serves. Raises StepFailed."""

    def serving_code(self) -> str:
        """Digest of the code that serves what has the traffic; it may be older than the installed one."""

    def labelled(self) -> str | None:
        """The release that the image with the traffic names in its label; None where no image serves."""

    def settle(self) -> list[str]:
        """Let the old one go; it answers what it has in the background. Returns what to tell the user."""

    def abandon(self, trial: Trial) -> None:
        """End a trial; where it has the traffic already, take that back first."""

    def serving(self) -> Serving | None:
        """What answers now, asked from the running thing; None when nothing was put into service."""

    def agrees(self, release: Path) -> bool:
        """Whether this release serves, and nothing is left of a switch that was cut short."""

    def up(self, release: Path) -> None:
        """Serve this release, and nothing else, if it is not so already. Raises StepFailed."""

    def down(self) -> list[str]:
        """Stop everything; returns what was stopped."""

    def pages(self) -> dict[str, str]:
        """What else it serves, and where: name to URL."""

    def open_pages(self, say: Callable[[str], None]) -> dict[str, str]:
        """Start what else it serves, until it answers; ``say`` hears what takes long. Raises StepFailed."""

    def built(self) -> set[str] | None:
        """The releases that can be started without building; None when nothing is ever built."""

    def logs_argv(self, service: str, follow: bool) -> list[str]:
        """The command that shows the log of a service."""

    def watch(self, seconds: float, look: Callable[[], None] = lambda: None) -> None:
        """Look at the public port for that long. Raises StepFailed when what it says or does is wrong, and whatever
        ``look`` raises, which is called over and over."""

    def metrics(self) -> str:
        """What `/metrics` says on the public port. Raises StepFailed when it says nothing."""


class Movable(Backend, Protocol):
    """A backend that can follow another one of ours on the public port (see :mod:`plantops.deploy.moving`)."""

    def preflight_without_port(self) -> None:
        """What :meth:`preflight` looks for, where another backend of ours still holds the port. Raises SetupError."""

    def rehearse(self, release: Path) -> Trial:
        """Start it where another backend holds the public port: healthy on a private address, out of the way."""

    def take_over(self, trial: Trial) -> None:
        """Serve what was rehearsed on the public port, which is free now; proven, not settled. Raises StepFailed."""
