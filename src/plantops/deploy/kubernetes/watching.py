"""Looking on while a release has the traffic: at the Service, and at each of its pods."""

from __future__ import annotations

import time
from collections.abc import Callable

from plantops.deploy import probe
from plantops.deploy.address import Address
from plantops.deploy.kubernetes import rollout
from plantops.deploy.kubernetes.api import Cluster
from plantops.deploy.kubernetes.fleet import Fleet, Standing
from plantops.errors import StepFailed

_EVERY_S = 0.5


class Watching:
    """One start of a release under watch. Pods may come and go with the load; none may die, or answer 500."""

    def __init__(self, cluster: Cluster, fleet: Fleet, current: Standing, public: Address, port: int) -> None:
        self._cluster = cluster
        self._fleet = fleet
        self._current = current
        self._public = public
        self._port = port
        self._restarts: dict[str, int] = {}
        self._bugs: dict[str, int] = {}

    def watch(self, seconds: float, look: Callable[[], None]) -> None:
        """Raises StepFailed as soon as something is wrong, and whatever ``look`` raises."""
        deadline = time.monotonic() + seconds
        self._look()
        while time.monotonic() < deadline:
            time.sleep(min(_EVERY_S, seconds))
            self._look()
            look()

    def _look(self) -> None:
        self._pods_live()
        self._service_answers()
        self._no_bugs()

    def _pods_live(self) -> None:
        for pod in self._fleet.pods(self._current.id):
            name, count = pod["metadata"]["name"], rollout.restarts(pod)
            if count > self._restarts.setdefault(name, count):
                lines = "".join(f"\n    {line}" for line in self._cluster.last_lines(name, before=True))
                raise StepFailed(f"the pod {name} died under watch; it said last:{lines}")

    def _service_answers(self) -> None:
        now = probe.serving(self._public)
        if (now.release, now.status) != (self._current.release, "healthy"):
            raise StepFailed(f"{self._public.url} answers as {now.release}, {now.status}: {now.reason}")

    def _no_bugs(self) -> None:
        for name in self._fleet.asked():
            try:
                bugs = probe.bugs(probe.metrics(self._cluster.through("pods", name, self._port)))
            except StepFailed:  # it went meanwhile, as pods do; the next look tells whether it died
                continue
            if bugs > self._bugs.setdefault(name, bugs):
                raise StepFailed(f"the pod {name} answered {bugs - self._bugs[name]} requests with status 500")
