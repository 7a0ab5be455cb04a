"""Waiting for a new container until it is healthy by its own door; one that does not come up says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from plantops.deploy import probe
from plantops.deploy.compose import engine
from plantops.deploy.compose.engine import Container
from plantops.errors import StepFailed

if TYPE_CHECKING:
    from docker import DockerClient


def healthy(client: DockerClient, made: Container, patience_s: float, end: Callable[[], None]) -> dict[str, Any]:
    """What its `/health` says once it is healthy; ``end`` is called where that does not come to pass.

    Raises StepFailed with the container's last lines.
    """
    try:
        return probe.wait_healthy(made.door, patience_s, lambda: _still_there(client, made))
    except (StepFailed, KeyboardInterrupt) as error:
        lines = "".join(f"\n    {line}" for line in engine.last_lines(client, made))
        end()
        if isinstance(error, StepFailed):
            raise StepFailed(error.message + lines, error.hint) from None
        raise


def _still_there(client: DockerClient, made: Container) -> None:
    now = engine.container(client, made.id)
    if now is None or not now.running or now.restarts:
        raise StepFailed("the new container ended while starting")
