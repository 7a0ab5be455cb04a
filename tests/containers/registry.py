"""A real registry on loopback, of Debian's docker-registry, with or without a login; it ends with its test."""

from __future__ import annotations

import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from api_client import HOST, free_port, until

USER, PASSWORD = "leaf", "hunter2-of-the-registry"
_HASH = "$2y$05$abcdefghijklmnopqrstuuJQ0OEfoQ1jvzDwPykoQtl7vEtSYYygy"  # bcrypt


def need_registry() -> None:
    """Skip the test where there is no registry to start."""
    if shutil.which("docker-registry") is None:
        pytest.skip("no docker-registry: apt-get install docker-registry")


@contextmanager
def registry(place: Path, login: bool = False, port: int = 0, around: tuple[str, ...] = ()) -> Iterator[str]:
    """Host and port of a registry that keeps its layers in ``place``; ``around``: a command that it is run by."""
    need_registry()
    place.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    settings: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(place / "layers")}},
        "http": {"addr": f"{HOST}:{port}"},
    }
    if login:
        (place / "htpasswd").write_text(f"{USER}:{_HASH}\n")
        settings["auth"] = {"htpasswd": {"realm": "test", "path": str(place / "htpasswd")}}
    (place / "config.yml").write_text(yaml.safe_dump(settings))
    with (place / "registry.log").open("w") as log:
        argv = [*around, "docker-registry", "serve", str(place / "config.yml")]
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        if not around:  # else it listens on another loopback than ours
            until(lambda: _answers(port), what="the registry's answer")
        yield f"{HOST}:{port}"
    finally:
        child.terminate()
        child.wait(10)


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://{HOST}:{port}/v2/", timeout=5).close()
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False
    return True
