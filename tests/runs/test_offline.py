"""Going back needs no network and does not wait for MLflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from api_client import free_port, until
from conftest import plantops
from plantops.shelf import Shelf
from runs.cheap import answering, edit

pytestmark = pytest.mark.ci


def timed(folder: Path, *argv: str, **variables: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """plantops with other variables, and a sentence that says how long it took and what it said."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "plantops", *argv], cwd=folder, env={**os.environ, **variables},
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    seconds = time.monotonic() - began
    return done, f"`plantops {' '.join(argv)}` took {seconds:.1f} s\n{done.stdout}{done.stderr}"


def test_rollback_without_network_and_without_mlflow(project: Path) -> None:
    plantops("run", cwd=project)
    one = answering(project)
    edit(project / "params.yaml", "seed: 1", "seed: 2")
    plantops("run", cwd=project)
    two = answering(project)
    assert two not in ("", one)

    closed = f"http://127.0.0.1:{free_port()}"
    edit(project / "config.yaml", "tracking_uri: sqlite:///mlruns/mlflow.db", f"tracking_uri: {closed}")
    proxies = {f"{name}_proxy": closed for name in ("http", "https", "all")}
    proxies |= {name.upper(): value for name, value in proxies.items()}
    done, said = timed(project, "rollback", **proxies, NO_PROXY="", no_proxy="")
    print(said)
    assert done.returncode == 0, said
    assert f"{one} is in service" in done.stdout, said
    assert answering(project) == one, said
    assert Shelf(project / "models").produced() == one, said

    # The aliases are owed, and said to be: their follower ends by itself.
    log = project / ".plantops/logs/follow.log"
    until(lambda: "the aliases in MLflow will follow" in log.read_text(), 60, "the follower's word")
    withdrawn = json.loads(plantops("releases", "--json", cwd=project).stdout)[0]
    assert (withdrawn["id"], withdrawn["state"]) == (two, "withdrawn")


LOOPBACK_ONLY = """
import fcntl, os, socket, struct, sys
with socket.socket() as some:  # bring the loopback of this network namespace up
    flags = fcntl.ioctl(some, 0x8913, struct.pack("16sh22x", b"lo", 0))
    fcntl.ioctl(some, 0x8914, struct.pack("16sh22x", b"lo", struct.unpack("16sh22x", flags)[1] | 1))
os.execvp(sys.argv[1], sys.argv[1:])
"""
LIFE = """
set -e
plantops() { "$PYTHON" -m plantops "$@"; }
trap 'plantops down' EXIT
plantops run
sed -i 's/^seed: 1/seed: 2/' params.yaml
plantops run
plantops rollback
plantops status
"""


def test_a_whole_life_where_there_is_no_network_but_loopback(project: Path) -> None:
    alone = ["unshare", "--map-root-user", "--net", sys.executable, "-c", LOOPBACK_ONLY]
    if subprocess.run([*alone, "true"], capture_output=True, timeout=20).returncode:
        pytest.skip("no network namespaces here")
    done = subprocess.run(
        [*alone, "bash", "-c", LIFE], cwd=project, env={**os.environ, "PYTHON": sys.executable},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("released: ") == 2
    (status,) = [line for line in done.stdout.splitlines() if line.startswith("answering ")]
    first = next(line for line in done.stdout.splitlines() if line.startswith("released: ")).split()[1]
    assert status.split()[1] == first
