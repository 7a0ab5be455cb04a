"""What clients of a stack meet, whatever runs the API behind it: HAProxy on the public port, the pages beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from plantops import process
from plantops.config import Config
from plantops.deploy import daemon, ports, probe
from plantops.deploy.address import Address, reached
from plantops.deploy.compose import engine
from plantops.deploy.compose.beside import Beside
from plantops.deploy.compose.engine import Container
from plantops.deploy.compose.gateway import Gateway
from plantops.deploy.compose.stack import BESIDE, GATEWAY, Stack
from plantops.deploy.protocol import Serving
from plantops.errors import SetupError, StepFailed

if TYPE_CHECKING:
    from docker import DockerClient

_GATEWAY_S = 20.0
_PATIENCE_S = 60


class Front:
    """HAProxy and the pages of one project's stack."""

    def __init__(self, config: Config, stack: Stack, client: Callable[[], DockerClient]) -> None:
        self._config, self._stack, self._client = config, stack, client
        self._beside = Beside(config, stack, self.containers)
        self.gateway = Gateway(stack.socket_folder / "admin.sock")

    @property
    def public(self) -> Address:
        """Where clients on this machine reach the API."""
        return reached(self._config.deploy.bind, self._config.deploy.port)

    def containers(self, service: str) -> list[Container]:
        """The stack's containers of a service, oldest first."""
        return engine.containers(self._client(), self._config.root, self._stack.name, service)

    def check_doors(self) -> None:
        """Raise SetupError where a port is somebody else's, or HAProxy listens on another one than config.yaml says."""
        deploy = self._config.deploy
        doors = {GATEWAY: (deploy.bind, deploy.port, "deploy.port"), **self._beside.doors()}
        for service, (host, port, key) in doors.items():
            there = [one.door for one in self.containers(service) if one.running]
            if there and service == GATEWAY and there[0] != Address(host, port):
                raise SetupError(
                    f"the API serves on {there[0].host}:{there[0].port}, and config.yaml now says {host}:{port}",
                    "plantops down, then plantops up (the address cannot move without a pause)",
                )
            own = service in daemon.PAGES and daemon.find(self._config.state / daemon.PAGES[service])
            if not there and not own and (taken := ports.obstacle(host, port)):
                raise SetupError(f"{service}: {taken}", f"stop it, or set {key} in config.yaml")

    def check(self) -> None:
        """Raise SetupError where the engine, its disk, Compose or Grafana's password would stop a deployment."""
        engine.check(self._client(), self._config.root, self._stack.name)
        if self._config.grafana.enabled:
            self._stack.password.check(self._config.grafana.bind)

    def have(self, image: str) -> None:
        """HAProxy runs and answers; ``image`` is the API's. Raises StepFailed."""
        if self.gateway.answers():
            return
        self._stack.start_gateway(image)
        if not process.wait_until(self.gateway.answers, _GATEWAY_S):
            client = self._client()
            lines = [line for one in self.containers(GATEWAY) for line in engine.last_lines(client, one)]
            hint = engine.hint(client, "plantops up")
            raise StepFailed("HAProxy did not start:" + "".join(f"\n    {line}" for line in lines), hint)

    def outdated(self) -> list[str]:
        """In a sentence, that HAProxy still runs by settings that have changed; else nothing."""
        there = self.containers(GATEWAY)
        if there and there[0].definition != self._stack.definition(GATEWAY):
            return ["HAProxy keeps its earlier settings until plantops down, then plantops up"]
        return []

    def serving(self, behind: bool) -> Serving | None:
        """What answers on the public port, as it says itself; None without HAProxy and without an API ``behind`` it."""
        there = self.containers(GATEWAY)
        if not there and not behind:
            return None
        running = [one.door for one in there if one.running]
        if not running:
            return probe.silent(self.public, "HAProxy is not running")
        return probe.serving(reached(running[0].host, running[0].port))

    def pages(self) -> dict[str, str]:
        """MLflow, Prometheus and Grafana, as far as they run."""
        return self._beside.pages()

    def open_pages(self, image: str, say: Callable[[str], None]) -> None:
        """Start those that are wanted, until they answer, and end those that are not. Raises StepFailed."""
        for one in self._beside.unwanted():
            engine.remove(self._client(), one, _PATIENCE_S)
        self._beside.start(image, say)

    def running(self) -> list[str]:
        """The services that have a container, but for the API."""
        return [name for name in (GATEWAY, *BESIDE) if self.containers(name)]
