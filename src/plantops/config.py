"""config.yaml as frozen, typed values. Unknown keys and wrong types are refused with the path of the key."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from plantops import typed, yamltext
from plantops.errors import SetupError
from plantops.sections import ApiConfig as ApiConfig
from plantops.sections import DockerConfig as DockerConfig
from plantops.sections import KubernetesConfig

FILE = "config.yaml"
PIPELINE, PARAMS, LOCK, CODE = "dvc.yaml", "params.yaml", "dvc.lock", "training_code.yaml"
# What a run writes itself among the inputs: it is no change, and not the user's uncommitted work.
OWN_FILES = (LOCK, CODE)
MIN_INTERVAL_S, MAX_INTERVAL_S = 0.1, 86400.0  # between two looks of `plantops watch`
MOST_REPLAYED = 1000  # photos of 2 MB at most
MOST_REPLICAS = 50  # HAProxy has 200 places (docker/swarm.yml): the new ones, the old ones, and those just gone

Level = Literal["ignore", "note", "warn", "stop"]


@dataclass(frozen=True)
class RulesConfig:
    """What a look at the photos makes of each thing it finds: nothing, a note, a warning, or the end of the run.

    What the pipeline survives does not stop it, and what it mends by itself (it turns photos, turns colours into RGB)
    is a note. Only a class of which most files cannot be used stops by default: that is a copy that went wrong.
    """

    broken_class: Level = "stop"
    empty: Level = "warn"
    damaged: Level = "warn"
    foreign: Level = "warn"
    huge: Level = "warn"
    tiny: Level = "warn"
    blank: Level = "warn"
    animated: Level = "warn"
    wrong_extension: Level = "note"
    odd_colours: Level = "note"
    turned: Level = "note"
    copies: Level = "warn"
    near_copies: Level = "warn"
    conflicts: Level = "warn"
    near_conflicts: Level = "warn"
    leaks: Level = "warn"
    class_gone: Level = "warn"
    relabelled: Level = "note"
    small_class: Level = "warn"
    imbalance: Level = "warn"
    suspects: Level = "note"
    field_untracked: Level = "warn"


@dataclass(frozen=True)
class DataConfig:
    """What to do with photos that are not under DVC, and with what a look at photos finds."""

    untracked: Literal["refuse", "add"] = "refuse"
    rules: RulesConfig = field(default_factory=RulesConfig)


@dataclass(frozen=True)
class MlflowConfig:
    """Where trainings are recorded. A relative ``sqlite:///`` path is one in the project."""

    tracking_uri: str = "sqlite:///mlruns/mlflow.db"
    experiment: str = "plant-disease"
    model_name: str = "plant-disease"
    required: bool = True
    ui_port: int = 5000


@dataclass(frozen=True)
class GateConfig:
    """What a model must reach: shares in 0..1, supports in photos. A ceiling or floor for the field of 0 is none."""

    min_accuracy: float = 0.70
    min_macro_f1: float = 0.65
    min_recall: float = 0.30
    min_support: int = 10
    max_fall: float = 0.04
    min_compared: int = 30
    confidence: float = 0.95
    not_enough: Literal["accept", "refuse"] = "accept"
    max_recall_fall: float = 0.10
    critical: tuple[str, ...] = ()
    max_ece: float = 0.15
    max_model_mb: float = 500
    max_latency_ms: float = 500
    max_slowdown: float = 3
    field_min_accuracy: float = 0
    field_min_macro_f1: float = 0


@dataclass(frozen=True)
class DeployConfig:
    """Where the API runs and how long a switch may take, seconds. ``auto`` is settled by the first deployment.

    ``replicas``: of the API in a swarm."""

    backend: Literal["auto", "local", "compose", "swarm", "kubernetes"] = "auto"
    replicas: int = 2
    bind: str = "127.0.0.1"
    port: int = 8000
    start_timeout_s: float = 60
    watch_seconds: float = 5
    auto_rollback: Literal["off", "notify", "on"] = "notify"
    keep_alive_s: float = 75


@dataclass(frozen=True)
class MonitorConfig:
    """What is done when photos drift: people are told, or a run is forced besides, once for the same inputs."""

    on_drift: Literal["notify", "retrain"] = "notify"


@dataclass(frozen=True)
class ServeConfig:
    """Bounds of the API. ``threads`` 0 means as many as cores; ``keep``: photos that the model is unsure of."""

    max_upload_mb: float = 20
    max_megapixels: float = 40
    max_batch: int = 16
    request_timeout_s: float = 30
    threads: int = 0
    max_waiting: int = 64
    keep: bool = False
    keep_photos: int = 500
    keep_mb: float = 500
    replay: int = 0


@dataclass(frozen=True)
class PrometheusConfig:
    """Whether the stack holds Prometheus (without containers: the one on the PATH), and its port on 127.0.0.1."""

    enabled: bool = True
    port: int = 9091


@dataclass(frozen=True)
class GrafanaConfig:
    """Whether the stack holds Grafana, and where it listens. Its password comes from GRAFANA_PASSWORD."""

    enabled: bool = True
    bind: str = "127.0.0.1"
    port: int = 3000


@dataclass(frozen=True)
class FollowConfig:
    """Whose commits ``plantops watch`` takes up: nobody's without a ``remote``; no ``branch``: the one checked out."""

    remote: str = ""
    branch: str = ""
    require_signed: bool = False


@dataclass(frozen=True)
class WatchConfig:
    """When ``plantops watch`` looks, how it retries, and when it stops for the time being."""

    interval_s: float = 30
    settle_seconds: float = 2
    max_wait_seconds: float = 60
    max_retries: int = 3
    max_runs_per_hour: int = 12
    git: FollowConfig = field(default_factory=FollowConfig)


@dataclass(frozen=True)
class GitConfig:
    """Whether a release is committed (what plantops wrote itself, nothing else), and pushed."""

    commit: bool = False
    push: bool = False


@dataclass(frozen=True)
class DvcConfig:
    """Whether a run brings from DVC's remote what is missing here, and sends there what it made."""

    pull: bool = True
    push: bool = False


@dataclass(frozen=True)
class ShareConfig:
    """The PostgreSQL of several machines (docs/scale.md): after ``lease_s`` of silence one loses its turn."""

    database: str = ""
    lease_s: float = 30


@dataclass(frozen=True)
class DiskConfig:
    """Free space below which nothing is trained, GB."""

    min_free_gb: float = 1.0


Event = Literal["started", "succeeded", "failed", "refused", "released", "rolled_back", "watch_stopped", "drifted",
                "misbehaves"]  # fmt: skip


@dataclass(frozen=True)
class NotifyConfig:
    """Who is told of which events; ``${NAME}`` in a text is of the environment, ``${file:PATH}`` of a file."""

    targets: tuple[str, ...] = ()
    webhooks: tuple[str, ...] = ()
    webhook_secret: str = ""
    events: tuple[Event, ...] = get_args(Event)[2:]


@dataclass(frozen=True)
class HooksConfig:
    """Programs to call, by event; one that takes longer than ``limit_s`` seconds is stopped."""

    started: str = ""
    succeeded: str = ""
    failed: str = ""
    refused: str = ""
    released: str = ""
    rolled_back: str = ""
    watch_stopped: str = ""
    drifted: str = ""
    misbehaves: str = ""
    limit_s: float = 60


@dataclass(frozen=True)
class Config:
    """The whole of config.yaml, and the project's root."""

    root: Path
    file: Path
    project: str = "plant-disease"
    data: DataConfig = field(default_factory=DataConfig)
    mlflow: MlflowConfig = field(default_factory=MlflowConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    deploy: DeployConfig = field(default_factory=DeployConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
    api: ApiConfig = field(default_factory=ApiConfig)
    docker: DockerConfig = field(default_factory=DockerConfig)
    kubernetes: KubernetesConfig = field(default_factory=KubernetesConfig)
    prometheus: PrometheusConfig = field(default_factory=PrometheusConfig)
    grafana: GrafanaConfig = field(default_factory=GrafanaConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    git: GitConfig = field(default_factory=GitConfig)
    dvc: DvcConfig = field(default_factory=DvcConfig)
    share: ShareConfig = field(default_factory=ShareConfig)
    disk: DiskConfig = field(default_factory=DiskConfig)
    notify: NotifyConfig = field(default_factory=NotifyConfig)
    hooks: HooksConfig = field(default_factory=HooksConfig)

    @property
    def state(self) -> Path:
        """The folder for plantops' own state."""
        return self.root / ".plantops"

    @property
    def kept(self) -> Path:
        """The folder of what the API keeps for `plantops inbox`."""
        return self.state / "feedback"

    @property
    def models(self) -> Path:
        """The folder of candidate, releases and production."""
        return self.root / "models"


def find_root(start: Path) -> Path:
    """The project that ``start`` lies in: the nearest folder above with a config.yaml and a dvc.yaml.

    Raises SetupError when there is none.
    """
    for folder in (start, *start.parents):
        if (folder / FILE).is_file() and (folder / "dvc.yaml").is_file():
            return folder
    raise SetupError(f"no plantops project in {start} or above it (no config.yaml beside a dvc.yaml)", "plantops init")


def load(root: Path, file: Path | None = None) -> Config:
    """Read ``file`` (default: config.yaml in ``root``). Raises SetupError naming the bad key."""
    path = file or root / FILE
    try:
        values = yamltext.read(path.read_bytes())
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}", "plantops init, or another --config") from None
    except yamltext.NotYaml as error:
        raise SetupError(f"{path} is not valid YAML: {error}", f"mend it, or git diff {path.name}") from None
    if values is not None and not isinstance(values, dict):
        raise SetupError(
            f"{path} must hold keys and values, not a {type(values).__name__}", f"mend it, or git diff {path.name}"
        )
    try:
        config: Config = typed.build(Config, values or {}, root=root, file=path)
    except typed.Wrong as bad:
        raise SetupError(f"{path.name}: {bad}", f"mend it in {path}") from None
    _check(config, path.name)
    return config


_SHARES = (
    "min_accuracy", "min_macro_f1", "min_recall", "max_fall", "max_recall_fall", "max_ece", "field_min_accuracy",
    "field_min_macro_f1",
)  # fmt: skip


def _check(config: Config, name: str) -> None:
    shares = {f"gate.{one}": getattr(config.gate, one) for one in _SHARES}
    for key, value in shares.items():
        if not 0 <= value <= 1:
            raise SetupError(f"{name}: {key} must lie between 0 and 1, not {value}", f"mend it in {name}")
    if not 0.5 <= config.gate.confidence < 1:
        said = f"gate.confidence must lie between 0.5 and 1, not {config.gate.confidence}"
        raise SetupError(f"{name}: {said}", f"mend it in {name}")
    ports = {
        "deploy.port": config.deploy.port, "mlflow.ui_port": config.mlflow.ui_port,
        "prometheus.port": config.prometheus.port, "grafana.port": config.grafana.port,
    }  # fmt: skip
    for key, port in ports.items():
        if not 1 <= port <= 65535:
            raise SetupError(f"{name}: {key} must lie between 1 and 65535, not {port}", f"mend it in {name}")
    if not 1 <= config.deploy.replicas <= MOST_REPLICAS:
        said = f"deploy.replicas must lie between 1 and {MOST_REPLICAS}, not {config.deploy.replicas}"
        raise SetupError(f"{name}: {said}", f"mend it in {name}")
    if config.serve.replay > MOST_REPLAYED:
        said = f"serve.replay keeps at most {MOST_REPLAYED} photos, not {config.serve.replay}"
        raise SetupError(f"{name}: {said}", f"mend it in {name}")
    if not MIN_INTERVAL_S <= config.watch.interval_s <= MAX_INTERVAL_S:
        said = f"must be from {MIN_INTERVAL_S:g} to {MAX_INTERVAL_S:g} seconds, not {config.watch.interval_s:g}"
        raise SetupError(f"{name}: watch.interval_s {said}", f"mend it in {name}")
    if config.notify.webhooks and not config.notify.webhook_secret.startswith("${"):
        said = "notify.webhook_secret must be ${NAME} or ${file:PATH}: webhooks are signed, and no secret stands here"
        raise SetupError(f"{name}: {said}", f"mend it in {name}")
    for limited in ("deploy", "serve", "watch", "disk", "gate", "hooks"):
        for key, value in vars(getattr(config, limited)).items():
            if isinstance(value, (int, float)) and not 0 <= value < float("inf"):
                raise SetupError(f"{name}: {limited}.{key} cannot be {value}", f"mend it in {name}")
    for section in (config.api, config.docker, config.kubernetes):
        if said := section.wrong():
            raise SetupError(f"{name}: {said}", f"mend it in {name}")
    if not re.fullmatch(r"[^/:'\"\x00-\x1f]+", config.mlflow.model_name):
        said = f"mlflow.model_name: MLflow takes no name like {config.mlflow.model_name!r} (/, : and quotes are out)"
        raise SetupError(f"{name}: {said}", f"mend it in {name}")
