"""What of a project stands in the cluster: the starts of releases, and which of them the Service leads to."""

from __future__ import annotations

from dataclasses import dataclass

from plantops.deploy.kubernetes import rollout
from plantops.deploy.kubernetes.api import DEPLOYMENT, POD, SERVICE, SLICE, Cluster
from plantops.deploy.kubernetes.kubectl import Object
from plantops.deploy.kubernetes.manifests import CODE, FORM, INSTANCE, MANAGED, OURS, RELEASE, START, image_of


@dataclass(frozen=True)
class Standing:
    """A start as the cluster has it. ``pods`` are wanted, ``available`` can be asked."""

    id: str
    release: str
    image: str
    code: str
    form: str
    pods: int
    available: int


class Fleet:
    """Of the project called ``app``."""

    def __init__(self, cluster: Cluster, app: str) -> None:
        self._cluster = cluster
        self._app = app

    def starts(self) -> list[Standing]:
        """All of them, oldest first."""
        return [_standing(one) for one in self._cluster.find(DEPLOYMENT, {INSTANCE: self._app, MANAGED: OURS})]

    def service(self) -> Object | None:
        """The one that clients ask."""
        return self._cluster.get(SERVICE, self._app)

    def foreign(self) -> bool:
        """Whether a Service of our name is somebody else's."""
        service = self.service()
        return service is not None and service["metadata"].get("labels", {}).get(MANAGED) != OURS

    def traffic(self) -> Standing | None:
        """The start that the Service leads to; None where it leads nowhere."""
        service = self.service()
        wanted = service and service["spec"].get("selector", {}).get(START)
        return next((one for one in self.starts() if one.id == wanted), None)

    def pods(self, start: str) -> list[Object]:
        """Its pods."""
        return self._cluster.find(POD, {INSTANCE: self._app, START: start})

    def asked(self) -> set[str]:
        """The names of the pods that the Service passes requests on to now."""
        slices = self._cluster.find(SLICE, {"kubernetes.io/service-name": self._app})
        ends = [end for one in slices for end in one.get("endpoints") or []]
        return {end["targetRef"]["name"] for end in ends if end.get("conditions", {}).get("ready", True)}

    def forget(self, keep: str) -> None:
        """Remove every start but one; its pods answer what they have first, within their grace period."""
        for kind in (DEPLOYMENT, SERVICE):
            for one in self._cluster.find(kind, {INSTANCE: self._app, MANAGED: OURS}):
                labels = one["metadata"]["labels"]
                if RELEASE in labels and labels.get(START) != keep:
                    self._cluster.delete(kind, one["metadata"]["name"])


def _standing(deployment: Object) -> Standing:
    meta = deployment["metadata"]
    notes = meta.get("annotations", {})
    return Standing(
        meta["labels"].get(START, ""), meta["labels"].get(RELEASE, ""), image_of(deployment),
        notes.get(CODE, ""), notes.get(FORM, ""), int(deployment["spec"].get("replicas", 1)),
        rollout.available(deployment),
    )  # fmt: skip
