"""Where an API answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True)
class Address:
    """Where an API answers: a TCP host and port, or a unix socket; and the ``key`` to ask it with, if it wants one."""

    host: str = "127.0.0.1"
    port: int = 0
    socket: Path | None = None
    key: str = field(default="", repr=False, compare=False)

    @property
    def url(self) -> str:
        """For a person."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.socket}" if self.socket else f"http://{host}:{self.port}"


def reached(bind: str, port: int, key: str = "") -> Address:
    """Where clients on this machine reach what listens on ``bind``."""
    return Address(_EVERYWHERE.get(bind, bind), port, key=key)
