"""Sections of config.yaml that say themselves what is wrong with them: the API, Docker, Kubernetes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_REGISTRY = r"(localhost|[a-z0-9-]+(\.[a-z0-9-]+)+|[a-z0-9-]+(?=:))(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"


@dataclass(frozen=True)
class ApiConfig:
    """Who may ask the API: hashes of ``keys`` (``plantops key``), other ``hosts`` that it is called by, and the origins
    of other sites whose pages may use it. ``title``: of its page; empty for one about leaves."""

    keys: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    cors: tuple[str, ...] = ()
    access_log: bool = True
    title: str = ""

    def wrong(self) -> str:
        """What is wrong with it, in words; empty when nothing is."""
        if not re.fullmatch(r"[^\x00-\x1f$\"'\\`]{0,80}", self.title):
            return "api.title holds more than 80 letters, or quotes, $ or \\"
        if not all(re.fullmatch("[0-9a-f]{64}", key) for key in self.keys):
            return "api.keys holds what is no hash of a key (plantops key makes one)"
        for one in (*self.hosts, *self.cors):
            if not re.fullmatch(r"[!-+\--~]+", one):  # no blank, no comma
                return f"{one!r} in api.hosts or api.cors is no name"
        for origin in self.cors:
            if origin != "*" and not re.fullmatch(r"https?://[^/]+", origin):
                return f"api.cors names origins, as https://leaf.example.org, not {origin!r}"
        return ""


@dataclass(frozen=True)
class DockerConfig:
    """Serving by containers: the image's name, the registry it is pushed to (None: it stays here), and what a container
    of the API may take."""

    image: str = "plant-disease-mlops"
    registry: str | None = None
    api_memory: str = "2g"
    mlflow: bool = True

    def wrong(self) -> str:
        """What Docker would refuse, and only after the training; empty when nothing is wrong."""
        if not re.fullmatch(r"([a-z0-9.-]+(:\d+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*", self.image):
            return f"docker.image is the name of no image (small letters, digits, . _ - /, no tag): {self.image!r}"
        if self.registry is not None and not re.fullmatch(_REGISTRY, self.registry):
            # Not shown: a login may stand in it.
            named = "docker.registry names a registry and a path in it, as registry.example.org/team"
            return f"{named}: no https://, no login (docker login keeps that)"
        if not re.fullmatch(r"\d+(\.\d+)?([bkmg]b?)?", self.api_memory.lower()):
            return f"docker.api_memory must be a size, as 2g or 512m, not {self.api_memory!r}"
        return ""


@dataclass(frozen=True)
class KubernetesConfig:
    """The kubernetes backend: a ``context`` of the kubeconfig, a namespace in it, and where clients reach the API."""

    context: str = ""
    namespace: str = "default"
    url: str = ""

    def wrong(self) -> str:
        """What is wrong with it, in words; empty when nothing is."""
        if not re.fullmatch(r"(https?://[^\s/@]+(/\S*)?)?", self.url) or not _leads(self.url):  # it may hold a login
            return "kubernetes.url is where clients reach the API, as https://leaf.example.org, with no login in it"
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", self.namespace):
            return f"kubernetes.namespace is the name of none: {self.namespace!r}"
        return ""


def _leads(url: str) -> bool:
    """Whether its host and port can be told apart, if it is there."""
    try:
        parts = urlsplit(url)
        return not url or bool(parts.hostname and parts.port != 0)
    except ValueError:  # no number, or one that no port has
        return False
