"""Where an API answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True)
class Address:
    """Where an API answers: a TCP host and port, with ``tls`` or without, or a unix socket.

    ``key``: to ask it with, if it wants one; ``base``: what paths begin with there; ``name``: what requests call it.
    ``called``: what people know it by, where that is none of these.
    """

    host: str = "127.0.0.1"
    port: int = 0
    socket: Path | None = None
    key: str = field(default="", repr=False, compare=False)
    base: str = ""
    tls: bool = False
    name: str = "localhost"
    called: str = ""

    @property
    def url(self) -> str:
        """For a person."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.called or (f"unix:{self.socket}" if self.socket else f"http://{host}:{self.port}")


def reached(bind: str, port: int, key: str = "") -> Address:
    """Where clients on this machine reach what listens on ``bind``."""
    return Address(_EVERYWHERE.get(bind, bind), port, key=key)


def named(url: str) -> Address:
    """Where a URL leads. Raises ValueError where it is none."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no http:// or https:// URL")
    port = parts.port or (443 if tls else 80)
    base = parts.path.rstrip("/")
    name = parts.netloc.rpartition("@")[2]
    return Address(parts.hostname, port, base=base, tls=tls, name=name, called=url.rstrip("/"))
