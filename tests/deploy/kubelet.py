"""What makes pods of Deployments, on one machine: the controllers, the node and the way to a Service, in a thread each.

A pod is a real `python -m plantops.serve` on an address of its own in 127.0.0.0/8, started as its container says. Not
here: images (a reference leads to a release's folder), limits, the read-only root, the network policy, the autoscaler.
"""

from __future__ import annotations

import copy
import http.client
import itertools
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from deploy.cluster import TOKEN, ApiServer, Object, Objects

_EVERY_S = 0.05
_POD = ("v1", "pods")
_DEPLOYMENT = ("apps/v1", "deployments")
_SLICE = ("discovery.k8s.io/v1", "endpointslices")


@dataclass
class Pod:
    """A pod as its node has it. ``ending``: from when on it is terminating."""

    name: str
    spec: Object
    address: str
    folder: Path
    child: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    ready: bool = False
    missing: bool = False
    waits: bool = False
    ending: bool = False
    exit: int | None = None

    @property
    def container(self) -> Object:
        one: Object = self.spec["containers"][0]
        return one

    @property
    def variables(self) -> list[str]:
        return [f"{one['name']}={one['value']}" for one in self.container.get("env", [])]

    @property
    def log(self) -> Path:
        return self.folder / f"{self.restarts}.log"


class Node:
    """Runs the pods of all Deployments. ``images``: reference to the folder of its release; ``quota``: pods at most;
    ``full``: no pod gets a place."""

    def __init__(self, place: Path, images: dict[str, Path]) -> None:
        self.objects = Objects()
        self.api = ApiServer(self.objects, self._log, place)
        self.images = images
        self.quota = 100
        self.full = False
        self._place = place
        self._pods: dict[str, Pod] = {}
        self._network = f"127.{random.randrange(10, 250)}.{random.randrange(1, 250)}"
        self._numbers = itertools.count(1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._enders: list[threading.Thread] = []
        self.failure: BaseException | None = None

    def __enter__(self) -> Node:
        self.api.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for one in list(self._pods.values()):
            if one.child:
                one.child.kill()
                one.child.wait()
        for ender in self._enders:
            ender.join()
        self.api.__exit__()

    @property
    def pods(self) -> list[str]:
        """The names of all there ever were."""
        return list(self._pods)

    def running(self) -> list[int]:
        """Processes of pods, those that end included."""
        return [one.child.pid for one in list(self._pods.values()) if one.child and one.child.poll() is None]

    def _work(self) -> None:
        while not self._stop.wait(_EVERY_S):
            try:
                with self.objects.lock:
                    for deployment in self.objects.all(*_DEPLOYMENT):
                        self._replicate(deployment)
                    self._forget_orphans()
                for pod in list(self._pods.values()):
                    self._keep(pod)
                with self.objects.lock:
                    self._route()
            except BaseException as error:  # the test is to see it
                self.failure = error
                raise

    def _replicate(self, deployment: Object) -> None:
        """As many pods as it wants, no more than the quota has room for; and its status."""
        meta, spec = deployment["metadata"], deployment["spec"]
        labels = spec["selector"]["matchLabels"]
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        mine = self.objects.all(*_POD, selector)
        conditions: list[Object] = []
        for _ in range(spec.get("replicas", 1) - len(mine)):
            if len(self.objects.all(*_POD)) >= self.quota:
                said = f'pods "{meta["name"]}" is forbidden: exceeded quota: small, limited: pods={self.quota}'
                conditions = [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": said}]
                break
            self._begin(meta["name"], spec["template"])
        for one in mine[spec.get("replicas", 1) :]:
            self.objects.remove(*_POD, one["metadata"]["name"])
        ready = sum(pod.ready for one in mine if (pod := self._pods.get(one["metadata"]["name"])))
        status = {
            "observedGeneration": meta["generation"], "replicas": len(mine), "readyReplicas": ready,
            "availableReplicas": ready, "updatedReplicas": len(mine), "conditions": conditions,
        }  # fmt: skip
        if deployment.get("status") != status:
            self.objects.put(*_DEPLOYMENT, deployment, status)

    def _begin(self, owner: str, template: Object) -> None:
        name = f"{owner}-{uuid.uuid4().hex[:5]}"
        folder = self._place / name
        folder.mkdir(parents=True)
        pod = Pod(name, copy.deepcopy(template["spec"]), f"{self._network}.{next(self._numbers)}", folder)
        self._pods[name] = pod
        meta = {"name": name, "labels": template["metadata"]["labels"]}
        self.objects.put(*_POD, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod.spec}, {})

    def _forget_orphans(self) -> None:
        """Pods whose Deployment is gone are removed; their processes end as a node ends them."""
        wanted = [one["spec"]["selector"]["matchLabels"] for one in self.objects.all(*_DEPLOYMENT)]
        for one in self.objects.all(*_POD):
            if not any(labels.items() <= one["metadata"]["labels"].items() for labels in wanted):
                self.objects.remove(*_POD, one["metadata"]["name"])
        there = {one["metadata"]["name"] for one in self.objects.all(*_POD)}
        for pod in self._pods.values():
            if pod.name not in there and not pod.ending:
                pod.ending, pod.ready = True, False
                ender = threading.Thread(target=self._end, args=(pod,))
                self._enders.append(ender)
                ender.start()

    def _end(self, pod: Pod) -> None:
        """What it is to do first, then SIGTERM, and SIGKILL when its grace is over."""
        if pod.child is None:
            return
        grace = time.monotonic() + pod.spec["terminationGracePeriodSeconds"]
        before = pod.container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
        if before and pod.child.poll() is None:
            first = subprocess.Popen(before)
            while first.poll() is None and time.monotonic() < grace and not self._stop.wait(_EVERY_S):
                pass
            first.kill()
            first.wait()
        pod.child.terminate()
        try:
            pod.child.wait(max(0.1, grace - time.monotonic()))
        except subprocess.TimeoutExpired:
            pod.child.kill()
            pod.child.wait()

    def _keep(self, pod: Pod) -> None:
        """Start its process, and again when it ended; ask its readiness; write down its status."""
        if pod.ending:
            return
        if self.full and pod.child is None:
            pod.waits = True
        elif pod.child is None:
            pod.waits = False
            pod.missing = not self.has(pod.container["image"])
            if not pod.missing:
                self._run(pod)
        elif pod.child.poll() is not None:
            pod.exit, pod.ready = pod.child.returncode, False
            if pod.restarts < 2:
                pod.restarts += 1
                self._run(pod)
        else:
            pod.ready = self._probe(pod)
        with self.objects.lock:
            for one in self.objects.all(*_POD):
                if one["metadata"]["name"] == pod.name and one["status"] != (status := _status(pod)):
                    self.objects.put(*_POD, one, status)

    def has(self, image: str) -> bool:
        """Whether the node can have an image."""
        return image in self.images

    def argv(self, pod: Pod) -> list[str]:
        """What runs as its container, with the variables of the manifest and no others of ours."""
        alone = [f"{key}={os.environ[key]}" for key in ("PATH", "HOME") if key in os.environ]
        serve = [sys.executable, "-m", "plantops.serve", "--bundle", str(self.images[pod.container["image"]])]
        return ["env", "-i", *alone, *pod.variables, *serve, *pod.container.get("args", []), "--host", pod.address]

    def _run(self, pod: Pod) -> None:
        with pod.log.open("wb") as out:
            pod.child = subprocess.Popen(
                self.argv(pod), cwd=pod.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def _probe(self, pod: Pod) -> bool:
        """Asked often until it is ready, and as often as the manifest says then: it may be busy."""
        path = pod.container["readinessProbe"]["httpGet"]["path"]
        if pod.ready:
            return True
        connection = http.client.HTTPConnection(pod.address, 8000, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _route(self) -> None:
        """The ready pods of each Service."""
        for service in self.objects.all("v1", "services"):
            name, wanted = service["metadata"]["name"], service["spec"].get("selector", {})
            pods = [one for one in self.objects.all(*_POD) if wanted.items() <= one["metadata"]["labels"].items()]
            ends = [_end_of(one, self._pods[one["metadata"]["name"]]) for one in pods if one["status"].get("podIP")]
            meta = {"name": f"{name}-a", "labels": {"kubernetes.io/service-name": name}}
            made = {
                "apiVersion": _SLICE[0], "kind": "EndpointSlice", "metadata": meta, "addressType": "IPv4",
                "endpoints": ends, "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
            }  # fmt: skip
            old = [one for one in self.objects.all(*_SLICE) if one["metadata"]["name"] == meta["name"]]
            if not old or old[0]["endpoints"] != ends:
                self.objects.put(*_SLICE, made, {})
        names = {one["metadata"]["name"] for one in self.objects.all("v1", "services")}
        for one in self.objects.all(*_SLICE):
            if one["metadata"]["labels"]["kubernetes.io/service-name"] not in names:
                self.objects.remove(*_SLICE, one["metadata"]["name"])

    def _log(self, name: str, before: bool) -> str:
        pod = self._pods[name]
        file = pod.folder / f"{pod.restarts - before}.log"
        return file.read_text(errors="replace") if file.is_file() else ""


def _status(pod: Pod) -> Object:
    running = pod.child is not None and pod.child.poll() is None
    state: Object = {"running": {}} if running else {"waiting": {"reason": "ContainerCreating"}}
    if pod.missing:
        said = f'Back-off pulling image "{pod.container["image"]}"'
        state = {"waiting": {"reason": "ImagePullBackOff", "message": said}}
    elif not running and pod.exit is not None and pod.restarts >= 2:
        state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}}
    last = {} if pod.exit is None else {"terminated": {"exitCode": pod.exit, "reason": "Error"}}
    container = {"name": "api", "ready": pod.ready, "restartCount": pod.restarts, "state": state, "lastState": last}
    return {
        "phase": "Running" if running else "Pending",
        "podIP": pod.address if running else "",
        "conditions": [
            {"type": "PodScheduled", "status": "False" if pod.waits else "True", "message": "Insufficient cpu"},
            {"type": "Ready", "status": "True" if pod.ready else "False"},
        ],
        "containerStatuses": [container],
    }


def _end_of(one: Object, pod: Pod) -> Object:
    target = {"kind": "Pod", "name": one["metadata"]["name"]}
    return {"addresses": [pod.address], "conditions": {"ready": pod.ready}, "targetRef": target}


class Way:
    """A port that leads to a Service as kube-proxy does: each new connection to one of its ready pods."""

    def __init__(self, api: ApiServer, service: str) -> None:
        self._api, self._service = api, service
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> Way:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            ends = self._api.ends(self._service)
            if not ends:
                client.close()
                continue
            pod = socket.create_connection(random.choice(ends))
            for pair in ((client, pod), (pod, client)):
                threading.Thread(target=_pass_on, args=pair, daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    """Until one side has nothing more to say, or is gone."""
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for one in (source, target):
            one.close()


def kubeconfig(folder: Path, api: ApiServer, port: int = 0, token: str = TOKEN) -> Path:
    """One that leads to the server, in a context that is not the current one."""
    there = {"server": f"https://127.0.0.1:{port or api.port}", "certificate-authority": str(api.authority)}
    named = {
        "apiVersion": "v1", "kind": "Config", "current-context": "",
        "clusters": [{"name": "small", "cluster": there}],
        "users": [{"name": "tester", "user": {"token": token}}],
        "contexts": [{"name": "small", "context": {"cluster": "small", "user": "tester"}}],
    }  # fmt: skip
    file = folder / "kubeconfig"
    file.write_text(json.dumps(named))
    return file
