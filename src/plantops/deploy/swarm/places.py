"""Each replica asked by itself: through HAProxy, which reaches all nodes, and a socket that is plantops' alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plantops.deploy import probe
from plantops.deploy.address import Address
from plantops.deploy.compose.gateway import Gateway
from plantops.deploy.merged import merged
from plantops.deploy.swarm.service import Service
from plantops.errors import StepFailed

_HEADER = "X-Plantops-Place"  # read by docker/haproxy/haproxy.cfg


class Places:
    """The replicas that have traffic, by the places that HAProxy has them in."""

    def __init__(self, gateway: Gateway, each: Path, service: Service) -> None:
        self._gateway, self._door, self._service = gateway, Address(socket=each), service

    def replies(self, path: str) -> list[probe.Reply]:
        """What each of them answers. Raises StepFailed where one, or HAProxy, does not."""
        now = self._service.look()
        ours = now.addresses if now else set()  # not those of tasks that are on their way out
        up = [slot.name for slot in self._gateway.slots() if slot.up and slot.address in ours]
        return [probe.ask(self._door, path, more={_HEADER: name}) for name in up]

    def releases(self) -> list[str]:
        """Of each healthy one the release that it serves; of any other why it does not."""
        try:
            said = self.replies("/health")
        except StepFailed as error:
            return [error.message]
        return [str(one.json().get("release")) if one.status == 200 else f"{one.status} {one.text}" for one in said]

    def metrics(self) -> str:
        """What they say on `/metrics`, as one. Raises StepFailed when one says nothing."""
        said = self.replies("/metrics")
        wrong = next((one for one in said if one.status != 200), None)
        if wrong or not said:
            raise StepFailed(f"/metrics answers {wrong.status}: {wrong.text}" if wrong else "no replica has traffic")
        return merged(one.body.decode() for one in said)

    def watched(self) -> dict[str, Any]:
        """What is looked at under watch: release and ages of all, and how many answers of 500 they gave."""
        said = self.replies("/health")
        for one in said:
            if one.status != 200:
                raise StepFailed(f"a replica's /health answers {one.status}: {one.text}")
        ages = sorted(str(one.json().get("since")) for one in said)
        releases = sorted({str(one.json().get("release")) for one in said})
        return {"release": ", ".join(releases), "since": ages, "bugs": probe.bugs(self.metrics())}
