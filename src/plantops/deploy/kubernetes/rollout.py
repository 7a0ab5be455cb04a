"""Waiting for the pods of a new Deployment: until all can be asked, or it is clear that they never will."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import chain

from plantops.deploy.kubernetes.api import DEPLOYMENT, POD, Cluster
from plantops.deploy.kubernetes.kubectl import Object
from plantops.errors import StepFailed

_POLL_S = 0.2
# Reasons that no waiting mends (kubernetes.io/docs/concepts/containers/images, .../workloads/pods/pod-lifecycle).
_HOPELESS = {
    "ImagePullBackOff": "its image cannot be had: is the registry reached from the nodes, and may they pull?",
    "InvalidImageName": "its image has no valid name",
    "ErrImageNeverPull": "its image is not on the node, and may not be pulled",
    "CreateContainerConfigError": "its container cannot be made as docker/kubernetes has it",
    "CreateContainerError": "its container cannot be made",
    "RunContainerError": "its container cannot be run",
    "CrashLoopBackOff": "it ends again and again",
}


def wait(cluster: Cluster, name: str, labels: Mapping[str, str], pods: int, seconds: float) -> None:
    """Until so many pods of the Deployment are available. Raises StepFailed with what holds them up."""
    deadline = time.monotonic() + seconds
    while True:
        deployment = cluster.get(DEPLOYMENT, name)
        if deployment is None:
            raise StepFailed(f"the Deployment {name} is gone: somebody removed it", "kubectl get events")
        there = available(deployment)
        if there >= pods:
            return
        listed = cluster.find(POD, labels)
        if why := next(chain(_refused(deployment), _hopeless(cluster, listed)), ""):
            raise StepFailed(why, "kubectl get events")
        if time.monotonic() > deadline:
            said = "".join(f"\n    {line}" for one in listed for line in _waiting(cluster, one))
            raise StepFailed(
                f"{there} of {pods} pods of {name} were ready within {seconds:g} s{said}",
                "kubectl get events; deploy.start_timeout_s gives them more time",
            )
        time.sleep(_POLL_S)


def available(deployment: Object) -> int:
    """Pods that can be asked, of the Deployment as it is now and not of an earlier form of it."""
    status = deployment.get("status", {})
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return 0
    return int(status.get("availableReplicas") or 0)


def restarts(pod: Object) -> int:
    """How often its containers ended and were started again."""
    return sum(int(one["restartCount"]) for one in pod.get("status", {}).get("containerStatuses", []))


def _refused(deployment: Object) -> Iterator[str]:
    """A quota, or an admission rule of the cluster."""
    for one in deployment.get("status", {}).get("conditions", []):
        if (one["type"], one["status"]) == ("ReplicaFailure", "True"):
            name, why = deployment["metadata"]["name"], one.get("message", one.get("reason"))
            yield f"the cluster makes no pod of {name}: {why}"


def _hopeless(cluster: Cluster, pods: list[Object]) -> Iterator[str]:
    for pod in pods:
        for one in pod.get("status", {}).get("containerStatuses", []):
            waiting = one.get("state", {}).get("waiting", {})
            if says := _HOPELESS.get(waiting.get("reason", "")):
                yield _told(cluster, pod, f"{waiting['reason']}: {says} {waiting.get('message', '')}".rstrip())
            elif one["restartCount"] > 1:
                yield _told(cluster, pod, f"it ended {one['restartCount']} times{_last(one)}")


def _told(cluster: Cluster, pod: Object, what: str) -> str:
    name = pod["metadata"]["name"]
    lines = cluster.last_lines(name, before=restarts(pod) > 0) or cluster.last_lines(name)
    return f"the pod {name} does not start: {what}" + "".join(f"\n    {line}" for line in lines)


def _last(status: Object) -> str:
    ended = status.get("lastState", {}).get("terminated", {})
    return f" ({ended.get('reason')}, status {ended.get('exitCode')})" if ended else ""


def _waiting(cluster: Cluster, pod: Object) -> Iterator[str]:
    """What is known of a pod that is not ready in time: why it has no node, or what it said."""
    conditions = pod.get("status", {}).get("conditions", [])
    if any((one["type"], one["status"]) == ("Ready", "True") for one in conditions):
        return
    name = pod["metadata"]["name"]
    yield f"{name}: {pod.get('status', {}).get('phase', 'Unknown')}"
    for one in conditions:
        if one["type"] == "PodScheduled" and one["status"] != "True":
            yield f"  no node takes it: {one.get('message', one.get('reason'))}"
    yield from (f"  {line}" for line in cluster.last_lines(name))
