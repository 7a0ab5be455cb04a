"""The disk of a project is full: a worker that dies is started again, and what it says is read on."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from api_client import free_port
from conftest import sh
from runs.test_mistakes import ALONE, can_mount

# In a mount namespace of its own. Not even the page that a log has begun has room left.
CODE = """
import json, os, signal, sys
from pathlib import Path
from plantops import process
from plantops.config import DeployConfig, ServeConfig
from plantops.deploy.local import Local

root, port, release = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
local = Local(root, DeployConfig(port=port), ServeConfig())
local.up(release)
before = local.serving()
for log in (root / ".plantops/local").glob("*.log"):
    with log.open("ab") as file:
        file.write(bytes(-log.stat().st_size % 4096))
with (root / "ballast").open("wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
os.kill(before.pid, signal.SIGKILL)
back = process.wait_until(lambda: local.serving().pid not in (0, before.pid), 30)
print(json.dumps({"back": back, "restarts": (local._status() or {})["serving"]["restarts"]}))
(root / "ballast").unlink()
local.down()
"""


@pytest.mark.ci
@pytest.mark.skipif(not can_mount(), reason="no mount namespaces here")
def test_a_worker_that_dies_on_a_full_disk_comes_back(tmp_path: Path, releases: dict[str, Path]) -> None:
    root = tmp_path / "project"
    root.mkdir()
    small = 'mount -t tmpfs -o size=2m none "$1" && shift && exec "$@"'
    argv = [sys.executable, "-c", CODE, root, str(free_port()), releases["one"]]
    done = sh(*ALONE, "sh", "-c", small, "sh", root, *argv, cwd=tmp_path)
    assert json.loads(done.stdout) == {"back": True, "restarts": 1}
