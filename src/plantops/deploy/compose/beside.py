"""What stands beside the API in the stack: MLflow, Prometheus and Grafana, as config.yaml has them."""

from __future__ import annotations

from collections.abc import Callable

from plantops.config import Config
from plantops.deploy import daemon
from plantops.deploy.address import reached
from plantops.deploy.compose.engine import Container
from plantops.deploy.compose.stack import BESIDE, Stack

Door = tuple[str, int, str]  # host, port, and the key in config.yaml that names the port


class Beside:
    """The other services of one project's stack. None of them is needed for an answer."""

    def __init__(self, config: Config, stack: Stack, containers: Callable[[str], list[Container]]) -> None:
        self._config = config
        self._stack = stack
        self._containers = containers

    def doors(self) -> dict[str, Door]:
        """Service to where it listens."""
        config = self._config
        doors = {
            "mlflow": ("127.0.0.1", config.mlflow.ui_port, "mlflow.ui_port"),
            "prometheus": ("127.0.0.1", config.prometheus.port, "prometheus.port"),
            "grafana": (config.grafana.bind, config.grafana.port, "grafana.port"),
        }
        return {name: doors[name] for name in self._stack.others}

    def pages(self) -> dict[str, str]:
        """Service to URL, as far as they run."""
        return {name: reached(*door[:2]).url for name, door in self.doors().items() if self._containers(name)}

    def start(self, tag: str) -> None:
        """Start them; the MLflow of the host gives way to the one here. Raises StepFailed."""
        if "mlflow" in self._stack.others:
            daemon.stop(self._config.state / daemon.MLFLOW)  # the same pages, on the same port
        there = all(any(one.running for one in self._containers(name)) for name in self._stack.others)
        self._stack.start_others(tag, anew=not there)

    def unwanted(self) -> list[Container]:
        """Containers of services that config.yaml does not want any more."""
        return [one for name in {*BESIDE} - {*self._stack.others} for one in self._containers(name)]
