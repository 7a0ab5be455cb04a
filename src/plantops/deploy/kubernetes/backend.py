"""The kubernetes backend: another Deployment beside the first, tried by a Service of its own; then the public Service
selects its pods, and the first one goes.

kubectl's kubeconfig says where the cluster is and who we are. All requests to pods go through the API server.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from plantops import process
from plantops.config import Config
from plantops.deploy import address, image, probe, registry
from plantops.deploy.address import Address
from plantops.deploy.compose import engine
from plantops.deploy.kubernetes import rollout
from plantops.deploy.kubernetes.api import Cluster
from plantops.deploy.kubernetes.fleet import Fleet, Standing
from plantops.deploy.kubernetes.kubectl import Kubectl
from plantops.deploy.kubernetes.manifests import INSTANCE, Manifests, Start, app_of
from plantops.deploy.kubernetes.pushed import Image, Pushed
from plantops.deploy.kubernetes.watching import Watching
from plantops.deploy.merged import merged
from plantops.deploy.protocol import Serving, Trial
from plantops.deploy.switching import switch_to
from plantops.deploy.towerkey import TowerKey
from plantops.errors import PlantopsError, SetupError, StepFailed
from plantops.shelf import release_of

API = "plant-disease-api"  # what `plantops logs` calls it, as with the other backends
_SEEN_S = 30.0
_POLL_S = 0.1
_NEEDED = (
    ("list", "deployments.apps"), ("get", "services"), ("list", "services"), ("list", "pods"), ("get", "pods/log"),
    ("get", "pods/proxy"), ("get", "services/proxy"), ("create", "services/proxy"),
    ("list", "endpointslices.discovery.k8s.io"),
)  # fmt: skip


class Kubernetes:
    """What serves one project in one namespace of a cluster."""

    name = "kubernetes"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._folder = config.state / "kubernetes"
        self._app = app_of(config.project)
        self._kubectl = Kubectl(config.root, config.kubernetes, self._folder)
        self._cluster = Cluster(self._kubectl, config.kubernetes.namespace)
        self._fleet = Fleet(self._cluster, self._app)
        self._pushed = Pushed(self._folder / "images.json", config.docker.registry)
        self._key = TowerKey(config.state, config.api)
        self._old: str | None = None
        self._built: dict[str, Image] = {}

    @cached_property
    def _manifests(self) -> Manifests:
        return Manifests(self._app, self._kubectl.render(self._config.root / "docker" / "kubernetes"))

    @property
    def url(self) -> str:
        """Where clients reach the API: as config.yaml says, else by the Service's name inside the cluster."""
        return self._config.kubernetes.url or f"http://{self._app}.{self._config.kubernetes.namespace}:8000"

    def preflight(self) -> None:
        """Raises SetupError when kubectl, the cluster, a permission, the registry or the engine would stop it."""
        self._kubectl.check()
        self._need_registry()
        if self._config.serve.keep or self._config.serve.replay:
            said = "serve.keep and serve.replay keep photos in this project's folder, which pods do not share"
            raise SetupError(said, "turn both off in config.yaml")
        self._access()
        _ = self._manifests  # which says what docker/kubernetes lacks
        registry.check(engine.client(), self._config)

    def preflight_without_port(self) -> None:
        """The same: no port of this machine is taken."""
        self.preflight()

    def access(self) -> str:
        """What of the cluster is reached, in words. Raises SetupError."""
        version = self._kubectl.check()
        self._access()
        where = f"{self._config.kubernetes.context}, namespace {self._config.kubernetes.namespace}"
        return f"kubectl {version}, cluster {self._cluster.version()} of context {where}"

    def build(self, release: Path, say: Callable[[str], None]) -> str:
        """Build the release's image and push it to the registry. Raises StepFailed, SetupError."""
        self._need_registry()
        client = engine.client()
        built = image.build(client, self._config, release, say)
        name = release_of(release)
        reference = registry.push(client, self._config, built.id, name, say)
        self._built[name] = Image(reference, image.serving_code(client, built.id))
        if name not in self._pushed.all():  # else another build of it may serve until this one does
            self._pushed.add(name, self._built[name])
        return f"{built.sentence}, pushed as {reference}"

    def start(self, release: Path) -> Trial:
        """Start it beside the one that serves, its pods ready. Raises StepFailed with what holds them up."""
        name = release_of(release)
        made = self._image(name)
        if made is None:
            raise StepFailed(
                f"no image of {name} was pushed", "plantops run --force (without --skip-docker) builds and pushes it"
            )
        current = self._fleet.traffic()
        self._old = current.id if current else None
        self._fleet.forget(self._old or "")
        start = Start(secrets.token_hex(3), name, made.reference, made.code)
        try:
            door = self._started(start, self._many(current))
            said = probe.wait_healthy(door, _SEEN_S, lambda: None)
        except (PlantopsError, KeyboardInterrupt):
            self._keep_only(self._old)
            raise
        return Trial(start.id, name, release, str(said["since"]), door)

    def _started(self, start: Start, pods: int) -> Address:
        """Its pods are ready; returns where they are asked."""
        for one in (*self._manifests.fences(), *self._manifests.release(start, pods, self._settings())):
            self._cluster.apply(one)
        name, labels = self._manifests.name(start.id), self._manifests.selector(start.id)
        rollout.wait(self._cluster, name, labels, pods, self._config.deploy.start_timeout_s)
        return self._door(name)

    def _image(self, release: str) -> Image | None:
        """What a release is to be started from: what was built just now, else by what it served last."""
        return self._built.get(release) or self._pushed.all().get(release)

    def _many(self, current: Standing | None) -> int:
        """Pods for a start: where an autoscaler made them more, as many as have the traffic now."""
        fewest = self._manifests.fewest
        return max(fewest, current.pods) if current and self._manifests.scaled else fewest

    def rehearse(self, release: Path) -> Trial:
        """What has no traffic is out of everybody's way."""
        return self.start(release)

    def take_over(self, trial: Trial) -> None:
        """The Service leads to what was rehearsed. Raises StepFailed."""
        self.switch(trial)

    def try_golden(self, trial: Trial) -> float:
        """The largest difference of the trial's golden answers. Raises StepFailed."""
        return probe.golden(trial.address, trial.folder)

    def switch(self, trial: Trial) -> None:
        """The Service leads to the trial's pods, proven; the old ones stand by."""
        self._lead_to(trial.id, trial.release)

    def back(self) -> None:
        """The Service leads to the old pods again; where there were none, everything goes."""
        old = next((one for one in self._fleet.starts() if one.id == self._old), None)
        if old is None:
            self.down()
            return
        self._lead_to(old.id, old.release)
        self._fleet.forget(old.id)

    def serving_code(self) -> str:
        """Digest of the code in the image that has the traffic."""
        current = self._fleet.traffic()
        return current.code if current else ""

    def labelled(self) -> str | None:
        """The release that was pushed as the image with the traffic; None when none has it."""
        current = self._fleet.traffic()
        return self._pushed.release_of(current.image) if current else None

    def settle(self) -> list[str]:
        """Let go of every start but the one with the traffic; what stands in the cluster is written down, last."""
        current = self._fleet.traffic()
        if current is None:
            raise StepFailed(f"the Service {self._app} leads to no release", "plantops up")
        self._fleet.forget(current.id)
        self._pushed.add(current.release, Image(current.image, current.code))
        self._write(Start(current.id, current.release, current.image, current.code), current.pods)
        return []

    def abandon(self, trial: Trial) -> None:
        """End a trial; where it has the traffic already, take that back first."""
        current = self._fleet.traffic()
        if current and current.id == trial.id:
            self.back()
        else:
            self._keep_only(current.id if current else None)

    def serving(self) -> Serving | None:
        """What answers through the Service, as it says itself."""
        if not self._config.kubernetes.context or self._fleet.service() is None:
            return None
        said = probe.serving(self._public)
        if said.status not in ("healthy", "starting", "failed"):  # the API server's answer, not the API's
            said = probe.silent(self._public, said.reason or "the Service leads to no pod that is ready")
        return replace(said, url=self.url)

    def agrees(self, release: Path) -> bool:
        """Whether one start of this release has the traffic alone, as config.yaml has it, and was written down last."""
        current, made = self._fleet.traffic(), self._image(release_of(release))
        return (
            current is not None
            and made is not None
            and [one.id for one in self._fleet.starts()] == [current.id]
            and (current.release, current.image) == (release_of(release), made.reference)
            and current.available > 0
            and self._written(current.id)
            and current.form == self._manifests.form(self._settings())
        )

    def up(self, release: Path) -> None:
        """Serve this release, and nothing else."""
        if self.agrees(release):
            return
        name = release_of(release)
        made = self._image(name)
        if made is None:
            self.build(release, lambda _: None)
        wanted = (name, made.reference if made else "", self._manifests.form(self._settings()))
        there = [one for one in self._fleet.starts() if (one.release, one.image, one.form) == wanted]
        if ready := [one for one in there if one.available]:
            self._lead_to(ready[-1].id, name)
        else:
            switch_to(self, release)
        self.settle()

    def down(self) -> list[str]:
        """Remove all that is ours in the namespace; returns what was removed."""
        if self._fleet.foreign():
            return []
        current, served = self._fleet.traffic(), self._fleet.service() is not None
        for api, kind, name in self._manifests.passing:
            self._cluster.delete((api, kind), name)
        self._fleet.forget("")
        (self._folder / "release.json").unlink(missing_ok=True)
        release = f" (release {current.release})" if current else ""
        return [f"the API in namespace {self._config.kubernetes.namespace}{release}"] if served else []

    def pages(self) -> dict[str, str]:
        """Nothing else: clusters have their own Prometheus and Grafana."""
        return {}

    def open_pages(self, _: Callable[[str], None]) -> dict[str, str]:
        """Nothing else."""
        return {}

    def built(self) -> set[str] | None:
        """The releases whose image was pushed."""
        return {*self._pushed.all(), *self._built}

    def logs_argv(self, service: str, follow: bool) -> list[str]:
        """The command that shows the log of all pods. Raises SetupError for another service."""
        if service not in (API, self._app):
            raise SetupError(f"there is no service {service} in the cluster", f"plantops logs {API}")
        wanted = ["--tail=200", "--prefix", "--max-log-requests=50", *(["--follow"] if follow else [])]
        return self._kubectl.argv("logs", f"--selector={INSTANCE}={self._app}", *wanted)

    def watch(self, seconds: float, look: Callable[[], None] = lambda: None) -> None:
        """Look at the Service and at every pod for that long. Raises StepFailed when what they say or do is wrong."""
        current = self._fleet.traffic()
        if current is None:
            raise StepFailed(f"the Service {self._app} leads to no release", "plantops up")
        Watching(self._cluster, self._fleet, current, self._public, self._manifests.inside).watch(seconds, look)

    def metrics(self) -> str:
        """What all pods with the traffic say on `/metrics`, summed. Raises StepFailed when they say nothing."""
        doors = [self._cluster.through("pods", name, self._manifests.inside) for name in sorted(self._fleet.asked())]
        if not doors:
            raise StepFailed(f"the Service {self._app} leads to no pod that is ready", "plantops status")
        return merged(probe.metrics(door) for door in doors)

    @property
    def _public(self) -> Address:
        """As clients ask it, where config.yaml says how; else the Service, through the API server."""
        if self._config.kubernetes.url:
            return replace(address.named(self._config.kubernetes.url), key=self._key.value)
        return self._door(self._app)

    def _door(self, service: str) -> Address:
        return self._cluster.through("services", service, self._manifests.port, self._key.value)

    def _keep_only(self, start: str | None) -> None:
        """Of a release that failed nothing stays; where none is to be kept, nothing at all."""
        if start is None:
            self.down()
        else:
            self._fleet.forget(start)

    def _lead_to(self, start: str, release: str) -> None:
        """Have the Service select these pods, and what else stands in front follow; proven. Raises StepFailed."""
        for one in self._manifests.front(start):
            self._cluster.apply(one)

        said = ""

        def there() -> bool:
            nonlocal said
            asked, ours = self._fleet.asked(), {pod["metadata"]["name"] for pod in self._fleet.pods(start)}
            now = probe.serving(self._public)
            said = f"{self.url} answers as {now.release}, {now.status}, by {', '.join(sorted(asked)) or 'no pod'}"
            return bool(asked) and asked <= ours and (now.release, now.status) == (release, "healthy")

        if not process.wait_until(there, _SEEN_S, _POLL_S):
            raise StepFailed(f"after the switch to {release} (pods {self._manifests.name(start)}-…) {said}")

    def _need_registry(self) -> None:
        if not self._config.docker.registry:
            said = "docker.registry names no registry that the cluster's nodes get the image from"
            raise SetupError(said, "set docker.registry in config.yaml (docs/scale.md)")

    def _access(self) -> None:
        """Raises SetupError where the cluster does not answer, or does not let us do what it takes."""
        context, namespace = self._config.kubernetes.context, self._config.kubernetes.namespace
        try:
            missing = self._cluster.lacks_namespace()
            wanted = [] if missing else [*_NEEDED, *self._changed()]
            refused = [f"{verb} {kind}" for verb, kind in wanted if not self._cluster.may(verb, kind)]
            foreign = not missing and not refused and self._fleet.foreign()
        except StepFailed as error:
            hint = f"kubectl --context {context} cluster-info"
            raise SetupError(f"context {context}: {error.message}", hint) from None
        if missing:
            raise SetupError(f"there is no namespace {namespace}", f"kubectl create namespace {namespace}")
        if refused:
            raise SetupError(
                f"you may not do this in namespace {namespace}: {', '.join(refused)}", "kubectl auth can-i --list"
            )
        if foreign:
            raise SetupError(
                f"namespace {namespace} holds a Service {self._app} that is not plantops'",
                "give this one another project: in config.yaml",
            )

    def _changed(self) -> Iterator[tuple[str, str]]:
        """What is done to each kind that docker/kubernetes holds; `apply` makes and changes."""
        for kind in self._manifests.kinds:
            yield from ((verb, self._cluster.plural(kind)) for verb in ("create", "patch", "delete"))

    def _settings(self) -> dict[str, str]:
        """The API's, as variables that its container reads."""
        config, hosts = self._config, [*self._config.api.hosts, *self._hosts()]
        values = {
            **asdict(config.serve),
            "keep_alive_s": config.deploy.keep_alive_s,
            **self._key.flags(),
            "hosts": ",".join(dict.fromkeys(hosts)),
        }
        return {f"PLANTOPS_SERVE_{name.upper()}": str(value) for name, value in values.items()}

    def _hosts(self) -> list[str]:
        """What requests call the API besides: the Service's names, and the API server's where it passes them on."""
        inside = f"{self._app}.{self._config.kubernetes.namespace}"
        url = self._config.kubernetes.url
        outside = [address.named(url).host] if url else []
        return [inside, f"{inside}.svc", f"{inside}.svc.cluster.local", self._kubectl.server(), *outside]

    def _write(self, start: Start, pods: int) -> None:
        """What stands in the cluster, for `kubectl apply -k .plantops/kubernetes`. It appears whole or not at all."""
        items = [*self._manifests.release(start, pods, self._settings()), *self._manifests.front(start.id)]
        kustomization = {"namespace": self._config.kubernetes.namespace, "resources": ["release.json"]}
        texts: dict[str, Any] = {
            "kustomization.yaml": kustomization,
            "release.json": {"apiVersion": "v1", "kind": "List", "items": items},
        }
        for name, value in texts.items():
            fresh = self._folder / f".{name}.new"
            fresh.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
            fresh.replace(self._folder / name)

    def _written(self, start: str) -> bool:
        """Whether that is this start."""
        try:
            items = json.loads((self._folder / "release.json").read_text(encoding="utf-8"))["items"]
        except FileNotFoundError:
            return False
        return bool(items[0]["metadata"]["name"] == self._manifests.name(start))


def connect(config: Config) -> Kubernetes:
    """What serves a project in a cluster; asks nobody yet."""
    return Kubernetes(config)
