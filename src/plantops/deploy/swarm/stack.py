"""The compose file once more, with swarm.yml: by Compose for what runs on this machine, by `docker stack deploy` for
the API, which is handed over as Compose reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from plantops import process
from plantops.config import Config
from plantops.deploy.compose.stack import API, GATEWAY, Stack
from plantops.errors import SetupError, StepFailed

_LABELS = ("release", "build", "since", "settled", "root")
RELEASE, BUILD, SINCE, SETTLED, ROOT = (f"org.plantops.{one}" for one in _LABELS)
_TAKEN = (
    "cap_drop", "command", "environment", "healthcheck", "image", "logging", "read_only", "stop_grace_period", "user",
)  # fmt: skip
_FORMAT = "3.13"  # of Compose files, the last that `docker stack` knows


class SwarmStack(Stack):
    """The stack of one project in a swarm, apart from the one that the compose backend would have."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._more = config.root / "docker" / "swarm.yml"
        self.socket_folder = config.state / "swarm"
        self.each = self.socket_folder / "each.sock"
        self._handed = self.socket_folder / "stack.json"

    @property
    def name(self) -> str:
        """The stack, and the compose project of what runs on this machine."""
        return f"{super().name}-swarm"

    @property
    def service(self) -> str:
        """What the engine calls the API's service."""
        return f"{self.name}_{API}"

    def environment(self, image: str) -> dict[str, str]:
        """What the two files ask for."""
        deploy = self._config.deploy
        more = {"REPLICAS": deploy.replicas, "START_S": deploy.start_timeout_s, "MONITOR_S": deploy.watch_seconds}
        return {**super().environment(image), **{f"PLANTOPS_{name}": f"{value:g}" for name, value in more.items()}}

    def check_files(self) -> None:
        """Raise SetupError where the files of docker/ are of a plantops that knew no swarm."""
        if not self._more.is_file():
            raise SetupError(f"{self._more} is missing", "plantops init (it writes what is missing)")
        if self.each.name not in (self._folder / GATEWAY / "haproxy.cfg").read_text(encoding="utf-8"):
            said = "docker/haproxy/haproxy.cfg is of an older plantops: single replicas could not be asked through it"
            raise SetupError(said, "plantops upgrade")

    def run_apart(self, image: str) -> str:
        """Start one container of the API that has no part in the service; returns its id. Raises StepFailed."""
        self.own_kept_folder()
        argv = [*self._argv(), "run", "--detach", "--no-deps", "--service-ports", API]
        done = process.capture(argv, self._config.root, env=self._variables(image))
        if not done.ok:
            raise StepFailed(f"docker compose run failed: {done.err.strip()[-500:]}", "plantops doctor")
        return done.out.split()[-1]

    def deploy(self, image: str, labels: Mapping[str, str], home: str) -> None:
        """Have the swarm run the API by ``image``; ``home``: the one node that may, or empty. Raises StepFailed."""
        self._own_socket_folder()
        self.own_kept_folder()
        self._handed.touch(mode=0o600)
        self._handed.write_text(json.dumps(handed(self._model(image), labels, home)), encoding="utf-8")
        login = ["--with-registry-auth"] if self._config.docker.registry else []
        argv = ["docker", "stack", "deploy", "--detach", "--resolve-image", "never", *login, "-c", str(self._handed)]
        done = process.capture([*argv, self.name], self._config.root, timeout=120)
        if not done.ok:
            raise StepFailed(f"docker stack deploy failed: {done.err.strip()[-500:]}", "plantops doctor")

    def logs_argv(self, service: str, follow: bool) -> list[str]:
        """The command that shows a service's log; of the API that of all its tasks."""
        if service != API:
            return super().logs_argv(service, follow)
        return ["docker", "service", "logs", *(["--follow"] if follow else []), self.service]

    def _model(self, image: str) -> dict[str, Any]:
        argv = [*self._argv(), "config", "--format", "json"]
        done = process.capture(argv, self._config.root, env=self._variables(image))
        if not done.ok:
            raise StepFailed(f"docker compose config failed: {done.err.strip()[-500:]}", "git diff docker")
        return dict(json.loads(done.out))

    def _argv(self) -> list[str]:
        return [*super()._argv(), "-f", str(self._more)]


def handed(model: Mapping[str, Any], labels: Mapping[str, str], home: str) -> dict[str, Any]:
    """What `docker stack deploy` is handed: of Compose's ``model`` the API's service, in the words that it knows.

    With a ``home`` all tasks run on that node and keep photos in the project; without one they keep none.
    """
    api = model["services"][API]
    scratch = [{"type": "tmpfs", "target": one} for one in api["tmpfs"]]
    kept = [{name: one[name] for name in ("type", "source", "target")} for one in api["volumes"]]
    environment = {name: value for name, value in api["environment"].items() if home or name != "PLANTOPS_SERVE_KEPT"}
    service = {name: api[name] for name in _TAKEN if name in api} | {
        "environment": environment,
        # Of each container, so that another time makes other tasks, though the image is the same.
        "labels": {SINCE: labels[SINCE]},
        "volumes": [*scratch, *(kept if home else [])],
        "networks": ["default"],
        "deploy": {
            **api["deploy"],
            "labels": dict(labels),
            "resources": {"limits": {"memory": str(api["mem_limit"])}},
            **({"placement": {"constraints": [f"node.id == {home}"]}} if home else {}),
        },
    }
    network = {"external": True, "name": model["networks"]["default"]["name"]}
    return {"version": _FORMAT, "services": {API: service}, "networks": {"default": network}}
