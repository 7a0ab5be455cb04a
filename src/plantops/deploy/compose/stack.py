"""`docker compose` for one project: the environment file that names the release, and the verbs typed for us."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from plantops import process
from plantops.config import Config
from plantops.deploy.compose import mounted
from plantops.deploy.compose.grafana import RESET, Password
from plantops.deploy.towerkey import TowerKey
from plantops.errors import SetupError, StepFailed

API, GATEWAY, GRAFANA = "plant-disease-api", "haproxy", "grafana"
PLAIN_USER = 10001  # of docker/Dockerfile.inference
BESIDE = ("mlflow", "prometheus", GRAFANA)
_DEFINING = {".yml", ".yaml", ".json", ".cfg", ".mlflow"}
_GRAFANA_S = 180


class Stack:
    """The compose file in ``docker/`` with the settings of config.yaml."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._folder = config.root / "docker"
        self.file = self._folder / "docker-compose.yml"
        self.env_file = self._folder / ".env"
        self.socket_folder = config.state / "haproxy"
        self.key = TowerKey(config.state, config.api)
        self._digest_file = config.state / "stack.sha256"

    @property
    def name(self) -> str:
        """The compose project: config.yaml's ``project``, in the letters that compose allows."""
        return re.sub(r"[^a-z0-9_-]+", "-", self._config.project.lower()).strip("-_") or "plantops"

    @property
    def others(self) -> list[str]:
        """The services beside the API that are wanted."""
        config = self._config
        # Elsewhere a server has the pages, or the container would not see the database.
        ours = self._database.is_relative_to(config.root.resolve() / "mlruns")
        wanted = {
            "mlflow": config.docker.mlflow and ours,
            "prometheus": config.prometheus.enabled,
            GRAFANA: config.grafana.enabled,
        }
        return [name for name, there in wanted.items() if there]

    def environment(self, image: str) -> dict[str, str]:
        """What the compose file asks for, with ``image`` as the API's."""
        config, password = self._config, self.password
        serve = {name: getattr(config.serve, name) for name in config.serve.__dataclass_fields__}
        values: dict[str, object] = {
            "PLANTOPS_PROJECT": self.name,
            "PLANTOPS_IMAGE": image,
            "PLANTOPS_ROOT": config.root.resolve(),
            "PLANTOPS_UID": os.getuid(),
            "PLANTOPS_GID": os.getgid(),
            "PLANTOPS_API_USER": self.api_user,
            "PLANTOPS_BIND": config.deploy.bind,
            "PLANTOPS_PORT": config.deploy.port,
            "PLANTOPS_API_MEMORY": config.docker.api_memory,
            "PLANTOPS_KEEP_ALIVE_S": f"{config.deploy.keep_alive_s:g}",
            "PLANTOPS_MLFLOW_PORT": config.mlflow.ui_port,
            "PLANTOPS_MLFLOW_DB": self._database,
            "PLANTOPS_PROMETHEUS_PORT": config.prometheus.port,
            "PLANTOPS_GRAFANA_BIND": password.allows(config.grafana.bind),
            "PLANTOPS_GRAFANA_PORT": config.grafana.port,
            "PLANTOPS_HAPROXY_CONFIG": mounted.digest(self._folder / GATEWAY),
            "PLANTOPS_PROMETHEUS_CONFIG": mounted.digest(self._folder / "prometheus"),
            "GRAFANA_PASSWORD": password.value,
            "MLFLOW_VERSION": metadata.version("mlflow"),
            "COMPOSE_PROFILES": ",".join(self.others),
            **{f"PLANTOPS_{name.upper()}": _number(value) for name, value in serve.items()},
            **{f"PLANTOPS_{name.upper()}": value for name, value in self.key.flags().items()},
            **self._patience(),
        }
        return {name: str(value) for name, value in values.items()}

    def _patience(self) -> dict[str, int]:
        """HAProxy's timeouts, whole milliseconds: each leaves the API the time to say itself what took too long."""
        timeout, keep_alive = self._config.serve.request_timeout_s, self._config.deploy.keep_alive_s
        seconds = {
            "KEEP_ALIVE": keep_alive,
            "REQUEST": timeout + 5,
            "CLIENT": 2 * timeout + 15,
            "SERVER": 2 * timeout + 30,
        }
        return {f"PLANTOPS_HAPROXY_{name}_MS": round(1000 * value) for name, value in seconds.items()}

    @property
    def password(self) -> Password:
        """Grafana's: the environment's, else the one in docker/.env."""
        value = os.environ.get("GRAFANA_PASSWORD") or self._kept("GRAFANA_PASSWORD")
        return Password(value, self._config.state / "grafana.password")

    def write(self, image: str) -> None:
        """Name ``image`` in docker/.env, so that compose typed by hand serves it. It appears whole or not at all."""
        text = "# Written by plantops: the release in service, and config.yaml's settings.\n" + "".join(
            f"{name}={_quoted(value)}\n" for name, value in self.environment(image).items()
        )
        fresh = self.env_file.with_name(".env.new")
        fresh.touch(mode=0o600)  # it may hold Grafana's password
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, self.env_file)

    def written(self, image: str) -> bool:
        """Whether docker/.env names ``image``."""
        line = f"PLANTOPS_IMAGE={_quoted(image)}\n"
        return self.env_file.is_file() and line in self.env_file.read_text(encoding="utf-8")

    def _kept(self, name: str) -> str:
        """What docker/.env holds already."""
        if not self.env_file.is_file():
            return ""
        lines = self.env_file.read_text(encoding="utf-8").splitlines()
        return next((_unquoted(line.partition("=")[2]) for line in lines if line.startswith(f"{name}=")), "")

    @property
    def _database(self) -> Path:
        """MLflow's SQLite file; a path that is in no project when there is none."""
        uri = self._config.mlflow.tracking_uri
        return (
            (self._config.root / uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:") else Path("/")
        )

    @property
    def api_user(self) -> str:
        """Whom the API runs as: you, so that what it keeps is yours; never root."""
        return f"{os.getuid()}:{os.getgid()}" if os.getuid() else f"{PLAIN_USER}:{PLAIN_USER}"

    def own_kept_folder(self) -> None:
        """The API's container can write it. Compose would make one that is root's."""
        self._config.kept.mkdir(parents=True, exist_ok=True)
        if not os.getuid():
            for path in (self._config.kept, *self._config.kept.rglob("*")):
                with suppress(FileNotFoundError):  # the API that serves makes room for newer ones meanwhile
                    os.chown(path, PLAIN_USER, PLAIN_USER)

    def add_api(self, image: str, count: int) -> None:
        """Have ``count`` containers of the API, the new ones of ``image``; those that run are left alone."""
        self.own_kept_folder()
        self._compose("up", "-d", "--no-deps", "--no-recreate", "--scale", f"{API}={count}", API, image=image)

    def check_gateway(self, image: str) -> None:
        """Fetch HAProxy's image where it is missing, and have HAProxy read its file. Raises StepFailed."""
        self._own_socket_folder()
        words = ["run", "--rm", "--no-deps", "-T", "--entrypoint", "haproxy", GATEWAY]
        self._compose(*words, "-c", "-f", "/usr/local/etc/haproxy/haproxy.cfg", image=image)

    def definition(self, service: str) -> str:
        """Digest of a service as docker/.env and the compose file have it; compose labels its container with it."""
        argv = [*self._argv(), "config", "--hash", service]
        return process.capture(argv, self._config.root).out.rpartition(" ")[2].strip()

    def start_gateway(self, image: str) -> None:
        """Start HAProxy, or make it anew where its definition changed."""
        self._own_socket_folder()
        self._compose("up", "-d", "--no-deps", GATEWAY, image=image)

    def lacks_image(self, service: str, image: str) -> bool:
        """Whether the image of a service is to be fetched or built first."""
        named = [*self._argv(), "config", "--images", service]
        names = process.capture(named, self._config.root, env=self._variables(image)).out.split()
        return not process.capture(["docker", "image", "inspect", *names], self._config.root).ok

    def start_others(self, image: str, anew: bool) -> list[str]:
        """Start MLflow, Prometheus and Grafana as wanted, ``anew`` or where their definition changed; what failed."""
        digest = self._digest(image)
        if not anew and self._digest_file.is_file() and self._digest_file.read_text() == digest:
            return []
        for ours in (self._config.root / "mlruns" / "artifacts", self._config.state / "metrics"):
            ours.mkdir(parents=True, exist_ok=True)  # else the engine makes them, and they are root's
        for name in ("prometheus", GRAFANA):  # they run as users of their own
            mounted.let_all_read(self._folder / name)
        failed = [said for service in self.others if (said := self._started(service, image))]
        if not failed:
            self._digest_file.write_text(self._digest(image))
        return failed

    def _started(self, service: str, image: str) -> str:
        """Start one service, alone: an image that cannot be had holds up no other. Empty, or why it did not start."""
        try:
            if service == GRAFANA:
                self._start_grafana(image)
            else:
                self._compose("up", "-d", "--no-deps", service, image=image)
        except (SetupError, StepFailed) as error:
            return f"{service}: {error.message}" + (f" ({error.hint})" if isinstance(error, SetupError) else "")
        return ""

    def _start_grafana(self, image: str) -> None:
        """Start it on 127.0.0.1 and set its password; only then it may listen where config.yaml says."""
        password = self.password
        if password.value and not password.is_set():
            healthy = ("--wait", "--wait-timeout", str(_GRAFANA_S))
            self._compose("up", "-d", "--no-deps", *healthy, GRAFANA, image=image)
            self._compose("exec", "-T", GRAFANA, "sh", "-c", RESET, image=image)
            password.remember()
        self._compose("up", "-d", "--no-deps", GRAFANA, image=image)
        password.check(self._config.grafana.bind)

    def down(self, image: str) -> None:
        """Stop and remove the containers and the network; volumes stay."""
        self._digest_file.unlink(missing_ok=True)
        self._compose("--profile", "*", "down", "--remove-orphans", image=image)

    def logs_argv(self, service: str, follow: bool) -> list[str]:
        """The command that shows a service's log."""
        return [*self._argv(), "logs", *(["--follow"] if follow else []), service]

    def _own_socket_folder(self) -> None:
        self.socket_folder.mkdir(parents=True, exist_ok=True)
        self.socket_folder.chmod(0o700)

    def _digest(self, image: str) -> str:
        """Of all that defines the services beside the API."""
        files = [self.file, *sorted(one for one in self._folder.rglob("*") if one.suffix in _DEFINING)]
        text = [path.read_bytes() for path in files if path.is_file()]
        settings = {**self.environment(image), "PLANTOPS_IMAGE": ""}
        wanted = self._config.grafana.bind  # which the environment has once its password is set
        return hashlib.sha256(b"\0".join([*text, repr((settings, wanted)).encode()])).hexdigest()

    def _argv(self) -> list[str]:
        return ["docker", "compose", "-f", str(self.file)]

    def _compose(self, *words: str, image: str) -> None:
        """Run compose; raises StepFailed with its last lines."""
        if not self.file.is_file():
            raise SetupError(f"{self.file} is missing", "plantops init (it writes what is missing)")
        try:
            process.stream([*self._argv(), *words], self._config.root, _quietly, self._variables(image))
        except process.Failed as failed:
            raise StepFailed(f"docker compose {words[0]} failed: {failed.message}", "docker compose ps") from None

    def _variables(self, image: str) -> Mapping[str, str]:
        # Also in the environment: the file names the release in service, and this may be another one.
        return {**self.environment(image), "COMPOSE_PROGRESS": "plain", "COMPOSE_ANSI": "never"}


def _quietly(_: str) -> None:
    """Compose's lines are shown when it fails."""


def _number(value: float) -> str:
    """As the API reads it: what is whole stays so (`:g` would make 2000000 2e+06), and yes is 1."""
    return str(int(value)) if float(value).is_integer() else str(value)


def _quoted(value: str) -> str:
    """As compose reads it literally: in single quotes, where a backslash stands for itself but before a quote.

    In double quotes where it stands there. (docs.docker.com/compose, "Set, use, and manage variables")
    """
    if re.search(r"\\('|$)", value):
        return '"' + re.sub(r'([\\"$])', r"\\\1", value) + '"'
    return "'" + value.replace("'", "\\'") + "'"


def _unquoted(text: str) -> str:
    quote, inside = text[:1], text[1:-1]
    return re.sub(r'\\([\\"$])', r"\1", inside) if quote == '"' else inside.replace("\\'", "'")
