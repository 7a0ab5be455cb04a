"""Which cluster is meant, of config.yaml."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class KubernetesConfig:
    """The kubernetes backend: a ``context`` of the kubeconfig, a namespace in it, and where clients reach the API."""

    context: str = ""
    namespace: str = "default"
    url: str = ""

    def wrong(self) -> str:
        """What is wrong with it, in words; empty when nothing is."""
        if not re.fullmatch(r"(https?://[^\s/@]+(/\S*)?)?", self.url):  # not shown: a login may stand in it
            return "kubernetes.url is where clients reach the API, as https://leaf.example.org, with no login in it"
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", self.namespace):
            return f"kubernetes.namespace is the name of none: {self.namespace!r}"
        return ""
