"""New before old, whatever the backend: start it, try it, move the traffic."""

from __future__ import annotations

from pathlib import Path

from plantops.deploy.protocol import Backend
from plantops.errors import PlantopsError


def switch_to(backend: Backend, release: Path) -> None:
    """Have ``release`` answer, the old one standing by.

    Raises PlantopsError; the old one then answers as before.
    """
    trial = backend.start(release)
    try:
        backend.try_golden(trial)
        backend.switch(trial)
    except (PlantopsError, KeyboardInterrupt):
        backend.abandon(trial)
        raise
