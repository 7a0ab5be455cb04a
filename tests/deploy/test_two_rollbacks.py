"""Two people go back at the same moment: the release before serves then, not the one before that."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from api_client import until
from bundle_factory import TinyModel, make_release
from plantops import lock
from plantops.bundle import Bundle
from plantops.deploy.local import Local
from plantops.store import Release, Store, now

CODE = """
import sys
from pathlib import Path
from plantops import releases
from plantops.config import Config, DeployConfig
from plantops.console import Console
from plantops.errors import PlantopsError
root = Path(sys.argv[1])
config = Config(root, root / "config.yaml", deploy=DeployConfig(backend="local", port=int(sys.argv[2])))
try:
    print(releases.roll_back(config, Console(), None).id)
except PlantopsError as error:
    print(error.message)
"""


def waits(one: subprocess.Popen[str]) -> bool:
    """Whether it has the lock's file open."""
    names = []
    for fd in Path(f"/proc/{one.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            names.append(fd.readlink().name)
    return lock.SWITCH in names


@pytest.mark.ci
def test_the_second_of_two_rollbacks_goes_no_further(local: Local, tmp_path: Path) -> None:
    (root,) = tmp_path.iterdir()
    state = root / ".plantops"
    for number, name in enumerate("abc"):
        bundle = Bundle.load(make_release(root / "models/releases" / name, TinyModel(number)))
        with Store(state) as store:
            store.add_release(Release(name, now(), None, bundle.digest, True, None, None, None))
            store.put_in_service(name, "code", "run")
    local.up(root / "models/releases/c")
    argv = [sys.executable, "-c", CODE, str(root), str(local.public.port)]
    with lock.hold(state, lock.SWITCH):
        both = [subprocess.Popen(argv, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        until(lambda: all(map(waits, both)), 60, "both waiting for their turn")
    said = sorted(one.communicate(timeout=60)[0].strip() for one in both)
    assert said == ["another rollback was faster: c is withdrawn already", "b"]
    serving = local.serving()
    assert serving
    assert serving.release == "b"
