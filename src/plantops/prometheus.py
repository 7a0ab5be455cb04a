"""Prometheus without containers: the one on the PATH, where there is one, by the stack's own rules and jobs.

It listens on loopback alone, keeps its data under `.plantops/`, and outlives us until `plantops down`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from plantops import process
from plantops.config import Config
from plantops.deploy import daemon, ports, probe
from plantops.deploy.address import Address, reached
from plantops.errors import StepFailed
from plantops.shipped import template

ABSENT = "there is no prometheus on the PATH; plantops status --live shows the API's figures"
_FOLDER = Path("docker/prometheus")
_STACKS_OWN = "127.0.0.1:9090"  # itself, in a container
_KEPT_FOR, _KEPT_MOST = "90d", "1GB"
_START_S = 30.0


def program() -> str | None:
    """Where it is; None when there is none."""
    return shutil.which("prometheus")


def page(config: Config) -> str | None:
    """Where the one that we started answers; None when it does not run."""
    return _address(config).url if daemon.find(config.state / daemon.PROMETHEUS) else None


def up(config: Config, say: Callable[[str], None]) -> str | None:
    """Start it, where config.yaml wants it and it is there; anew where what it is to do changed. Its URL.

    Raises StepFailed when it does not answer: nothing needs it.
    """
    if not config.prometheus.enabled:
        return None
    if program() is None:
        say(ABSENT)
        return None
    fresh, notes = _write(config), config.state / daemon.PROMETHEUS
    if page(config) and not fresh and json.loads(notes.read_text())["argv"] == _argv(config):
        return _address(config).url
    down(config)
    if obstacle := ports.obstacle("127.0.0.1", config.prometheus.port):
        raise StepFailed(f"Prometheus: {obstacle}", "stop it, or set prometheus.port in config.yaml")
    log = config.state / "logs" / "prometheus.log"
    (config.state / "metrics").mkdir(exist_ok=True)
    daemon.start(_argv(config), config.root, notes, log)
    _wait(config, notes, log)
    return _address(config).url


def down(config: Config) -> bool:
    """Stop it; says whether it ran. Its data stay."""
    return daemon.stop(config.state / daemon.PROMETHEUS)


def settings(folder: Path, api: str, own: int) -> dict[str, Any]:
    """prometheus.yml of the stack in ``folder``, for an API at ``api`` (host:port) and itself on the port ``own``.

    Raises StepFailed when it cannot be read.
    """
    import yaml

    path = folder / "prometheus.yml"
    try:
        made: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        made["rule_files"] = [str(folder.resolve() / one) for one in made.get("rule_files", ())]
        for job in made["scrape_configs"]:
            if job.pop("dns_sd_configs", None):  # names that only the engine's DNS knows
                job["static_configs"] = [{"targets": [api]}]
            for some in job.get("static_configs", ()):
                some["targets"] = [f"127.0.0.1:{own}" if one == _STACKS_OWN else one for one in some["targets"]]
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise StepFailed(f"Prometheus: {path} cannot be used: {error}", f"git diff {_FOLDER}") from None
    return made


def _write(config: Config) -> bool:
    """Write what it is to do (YAML holds all of JSON); says whether that, or a rule, is another than before."""
    own, place = config.root / _FOLDER, _folder(config)
    source = own if own.is_dir() else template(str(_FOLDER))
    api = urlsplit(reached(config.deploy.bind, config.deploy.port).url).netloc
    made = settings(source, api, config.prometheus.port)
    content = b"\0".join(one.read_bytes() for one in sorted(source.rglob("*")) if one.is_file())
    told = {
        "prometheus.yml": json.dumps(made, indent=2) + "\n",
        "rules.sha256": hashlib.sha256(content).hexdigest(),
    }
    before = {name: (place / name).read_text(encoding="utf-8") for name in told if (place / name).is_file()}
    place.mkdir(parents=True, exist_ok=True)
    for name, text in told.items():
        (place / name).write_text(text, encoding="utf-8")
    return told != before


def _argv(config: Config) -> list[str]:
    folder = _folder(config)
    return [
        program() or "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--storage.tsdb.retention.time={_KEPT_FOR}",
        f"--storage.tsdb.retention.size={_KEPT_MOST}",
        f"--web.listen-address=127.0.0.1:{config.prometheus.port}",
        f"--web.user-assets={config.state / 'metrics'}",
    ]


def _wait(config: Config, notes: Path, log: Path) -> None:
    """Until it answers. Raises StepFailed with its last lines when it ends instead."""
    where = _address(config)
    process.wait_until(lambda: probe.reachable(where) or daemon.find(notes) is None, _START_S, 0.1)
    if not probe.reachable(where):
        last = "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-5:])
        raise StepFailed(f"Prometheus did not answer on {where.url} within {_START_S:g} s:\n{last}", f"less {log}")


def _folder(config: Config) -> Path:
    return config.state / "prometheus"


def _address(config: Config) -> Address:
    return Address("127.0.0.1", config.prometheus.port)
