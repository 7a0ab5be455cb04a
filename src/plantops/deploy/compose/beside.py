"""What stands beside the API in the stack: MLflow, Prometheus and Grafana, as config.yaml has them."""

from __future__ import annotations

from collections.abc import Callable

from plantops import process
from plantops.config import Config
from plantops.deploy import daemon, probe
from plantops.deploy.address import reached
from plantops.deploy.compose.engine import Container
from plantops.deploy.compose.stack import BESIDE, Stack
from plantops.errors import StepFailed

Door = tuple[str, int, str]  # host, port, and the key in config.yaml that names the port
_ANSWERS_S = 90.0  # of which MLflow on a busy machine takes thirty


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

    def start(self, tag: str, say: Callable[[str], None]) -> None:
        """Start them, until they answer; those of the host give way to the ones here. Raises StepFailed."""
        wanted = self._stack.others
        for name, notes in daemon.PAGES.items():
            if name in wanted:
                daemon.stop(self._config.state / notes)  # the same pages, on the same port
        away = [name for name in wanted if not any(one.running for one in self._containers(name))]
        for name in away:
            if self._stack.lacks_image(name, tag):
                say(f"{name}: getting its image, once; the API answers already")
        failed = [*self._stack.start_others(tag, anew=bool(away)), *self._silent()]
        if failed:
            raise StepFailed("\n".join(failed), "plantops up tries again; enabled: false in config.yaml goes without")

    def _silent(self) -> list[str]:
        """Those of them that run and do not answer, however long they are waited for, in sentences."""
        pages = {name: reached(*door[:2]) for name, door in self.doors().items() if self._containers(name)}
        process.wait_until(lambda: all(map(probe.reachable, pages.values())), _ANSWERS_S, 0.2)
        return [
            f"{name}: no answer on {page.url}: plantops logs {name}"
            for name, page in pages.items()
            if not probe.reachable(page)
        ]

    def unwanted(self) -> list[Container]:
        """Containers of services that config.yaml does not want any more."""
        return [one for name in {*BESIDE} - {*self._stack.others} for one in self._containers(name)]
