"""Several processes learn one model: torchrun and kills for real, and two machines as network namespaces."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from api_client import until
from conftest import sh
from plantops import process
from plantops.ml.frameworks import torch
from plantops.ml.model import Model
from plantops.ml.prepared import Prepared

from . import photos

pytestmark = [pytest.mark.ci, pytest.mark.timeout(600)]
STAGE = "plantops.ml.train"
COMMAND = [sys.executable, "-m", STAGE]
EPOCHS = 12


def project(folder: Path, **train: object) -> Path:
    """Prepared photos, and parameters for two processes."""
    photos.project(folder, 12, train={"epochs": EPOCHS, "patience": EPOCHS, "devices": 2, **train})
    sh(sys.executable, "-m", "plantops.ml.data", cwd=folder)
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    path = folder / "plots/epochs.csv"
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def same_model(one: Path, other: Path) -> bool:
    first, second = (Model.load(folder / "models/checkpoint").network.state_dict() for folder in (one, other))
    return all(torch.equal(values, second[name]) for name, values in first.items())


@contextmanager
def training(folder: Path, argv: list[str] = COMMAND, **env: str) -> Iterator[subprocess.Popen[str]]:
    """A stage under way; nothing of it is left afterwards."""
    stage = subprocess.Popen(
        argv, cwd=folder, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )  # fmt: skip
    try:
        yield stage
    finally:
        process.end([stage.pid, *process.working_in(folder, STAGE)])
        stage.wait()


def has_epochs(folder: Path, count: int) -> Callable[[], bool]:
    return lambda: (folder / "plots/epochs.csv").exists() and len(rows(folder)) >= count


def workers(folder: Path) -> dict[str, int]:
    """Process ids by rank."""
    found = {}
    for pid in process.working_in(folder, STAGE):
        with suppress(OSError):  # it is gone
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            found |= {one[5:].decode(): pid for one in variables if one.startswith(b"RANK=")}
    return found


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which two processes have trained, undisturbed."""
    folder = project(tmp_path_factory.mktemp("two") / "p")
    done = sh(*COMMAND, cwd=folder)
    assert done.stderr == ""
    assert "Lightning" not in done.stdout
    assert done.stdout.count(f"{EPOCHS} epochs in ") == 1
    return folder


def test_two_processes_leave_what_one_leaves(two: Path, trained: Path) -> None:
    assert {one.name for one in (two / "models/checkpoint").iterdir()} == {
        one.name for one in (trained / "models/checkpoint").iterdir()
    }
    said, of_one = (json.loads((folder / "metrics/train.json").read_text()) for folder in (two, trained))
    assert said.keys() == of_one.keys()
    assert len(rows(two)) == EPOCHS
    with (two / "models/checkpoint/course.csv").open(newline="") as file:
        course = list(csv.DictReader(file))
    prepared = Prepared.load(two / "data/prepared")
    assert [one["md5"] for one in course] == [photo.md5 for photo in prepared.of("train")]
    assert all(0 <= float(one["own"]) <= float(one["share"]) <= 1 for one in course)


def test_the_score_of_two_is_that_of_the_model_they_leave(two: Path) -> None:
    said = json.loads((two / "metrics/train.json").read_text())
    prepared, model = Prepared.load(two / "data/prepared"), Model.load(two / "models/checkpoint")
    val = prepared.of("val")
    answers = model.probabilities(prepared.images[[photo.row for photo in val]]).argmax(1)
    assert (answers == prepared.labels(val)).mean() == pytest.approx(said["val_accuracy"], abs=1e-6)


def test_a_process_that_is_killed_is_replaced_and_the_result_is_the_same(two: Path, tmp_path: Path) -> None:
    folder = project(tmp_path / "p")
    with training(folder) as stage:
        until(has_epochs(folder, 3), 240, "three epochs")
        os.kill(workers(folder)["1"], signal.SIGKILL)
        said, _ = stage.communicate(timeout=240)
    assert stage.returncode == 0, said
    assert "go on from the last whole epoch" in said
    assert "torch/distributed" not in said
    assert rows(folder) == rows(two)
    assert same_model(folder, two)
    assert (folder / "models/checkpoint/course.csv").read_text() == (two / "models/checkpoint/course.csv").read_text()


def test_what_a_user_can_mend_is_said_once(tmp_path: Path) -> None:
    folder = project(tmp_path / "p", lr=1e30)
    done = sh(*COMMAND, cwd=folder, check=False)
    assert done.returncode == 1
    assert done.stdout.count("training came apart in epoch") == 1
    assert "a lower train.lr" in done.stdout
    assert not (folder / "metrics/train.json").exists()


def test_it_gives_up_on_a_process_that_dies_each_time(tmp_path: Path) -> None:
    folder, killed = project(tmp_path / "p", epochs=5000, patience=5000), set[int]()
    with training(folder) as stage:
        for _ in range(4):
            until(lambda: workers(folder).get("0") not in {None, *killed}, 240, "a start")
            killed.add(workers(folder)["0"])
            os.kill(workers(folder)["0"], signal.SIGKILL)
        said, _ = stage.communicate(timeout=240)
    assert stage.returncode == 1
    assert "training died 4 times; the last time process 0 was ended by SIGKILL" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stage_that_is_ended_leaves_no_process_and_listened_to_nobody(tmp_path: Path, signum: signal.Signals) -> None:
    folder = project(tmp_path / "p", epochs=5000, patience=5000)
    with training(folder) as stage:
        until(has_epochs(folder, 1), 240, "the first epoch")
        beyond = [one for pid in (stage.pid, *workers(folder).values()) for one in listening(pid) if not one[1]]
        stage.send_signal(signum)
        said, _ = stage.communicate(timeout=240)
        until(lambda: not process.working_in(folder, STAGE), 30, "the end of its processes")
    assert stage.returncode == -signum
    assert "Traceback" not in said
    assert beyond == []
    assert not (folder / "metrics/train.json").exists()


def listening(pid: int) -> list[tuple[str, bool]]:
    """(address, whether it is the loopback) of each TCP socket on which a process listens."""
    sockets = {os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir() if one.is_symlink()}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            local, state, inode = line.split()[1], line.split()[3], line.split()[9]
            if state == "0A" and f"socket:[{inode}]" in sockets:
                found.append((local, local.startswith(("0100007F", "00000000000000000000000001000000"))))
    return found


def test_a_held_backbone_learns_in_two_processes_too(tmp_path: Path) -> None:
    folder = project(tmp_path / "p", epochs=3)
    photos.params(folder, train={"epochs": 3, "devices": 2}, model={"freeze_epochs": 2})
    sh(*COMMAND, cwd=folder)
    assert len(rows(folder)) == 3


@pytest.fixture
def machines() -> Iterator[tuple[str, str]]:
    """Two network namespaces with a cable between them: 10.199.77.1 on `a`, 10.199.77.2 on `b`."""
    names = tuple(f"plantops-{os.getpid()}-{end}" for end in "ab")
    cables = tuple(f"pt{os.getpid() % 100000}{end}" for end in "ab")
    try:
        for name in names:
            done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, timeout=20)
            if done.returncode:
                pytest.skip(f"no network namespaces can be made here: {done.stderr.strip()}")
        sh(
            "ip",
            "link",
            "add",
            cables[0],
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            cables[1],
            "netns",
            names[1],
            cwd=Path("/"),
        )
        for number, (name, cable) in enumerate(zip(names, cables, strict=True), 1):
            for words in (f"addr add 10.199.77.{number}/24 dev {cable}", f"link set {cable} up", "link set lo up"):
                sh("ip", "-n", name, *words.split(), cwd=Path("/"))
        yield names[0], names[1]
    except FileNotFoundError:
        pytest.skip("no `ip` here: network namespaces cannot be made")
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=20)


def test_two_machines_learn_as_two_processes_on_one_though_a_process_is_killed(
    two: Path, tmp_path: Path, machines: tuple[str, str]
) -> None:
    folder = project(tmp_path / "p", devices=1, nodes=2)
    here, there = (["ip", "netns", "exec", name] for name in machines)
    torchrun = [
        *there, str(Path(sys.executable).parent / "torchrun"), "--nnodes", "2", "--nproc-per-node", "1",
        "--max-restarts", "3", "--rdzv-backend", "c10d", "--rdzv-endpoint", "10.199.77.1:29400",
        "--rdzv-id", "plantops", "--local-addr", "10.199.77.2", "-m", STAGE,
    ]  # fmt: skip
    cable = f"pt{os.getpid() % 100000}"
    alike = {"OMP_NUM_THREADS": "1", "PET_RDZV_ENDPOINT": "10.199.77.1:29400"}  # as `two` had: sums come out the same
    first = training(folder, [*here, *COMMAND], GLOO_SOCKET_IFNAME=f"{cable}a", **alike)
    second = training(folder, torchrun, GLOO_SOCKET_IFNAME=f"{cable}b", **alike)
    with first as stage, second as other:
        until(has_epochs(folder, 3), 240, "three epochs")
        os.kill(workers(folder)["1"], signal.SIGKILL)
        said, _ = stage.communicate(timeout=240)
        theirs, _ = other.communicate(timeout=240)
    assert stage.returncode == 0, f"{said}\n{theirs}"
    assert other.returncode == 0, theirs
    assert rows(folder) == rows(two)
    assert same_model(folder, two)


MEETS = """
import sys
from plantops.ml import workers
from plantops.ml.frameworks import torch
mine = workers.share()
store = workers._met(mine)
torch.distributed.init_process_group("gloo", store=store, rank=mine.rank, world_size=mine.of)
number = torch.tensor(1 + mine.rank)
torch.distributed.all_reduce(number)
print(int(number))
"""


def test_processes_meet_whatever_others_left_and_however_agents_count() -> None:
    from plantops.ml.frameworks import torch

    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def meets(rank: int, restarts: int) -> subprocess.Popen[str]:
        told = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port}
        told |= {"TORCHELASTIC_RUN_ID": "x", "TORCHELASTIC_RESTART_COUNT": restarts, "GLOO_SOCKET_IFNAME": "lo"}
        env = {**os.environ, **{name: str(value) for name, value in told.items()}}
        return subprocess.Popen([sys.executable, "-c", MEETS], env=env, stdout=subprocess.PIPE, text=True)

    for died in (1, 0):
        with meets(died, 0) as dead:
            until(lambda: store.check([f"plantops/member-{died}"]), 60, "its name")  # noqa: B023
            dead.kill()
        with meets(1 - died, 0) as one, meets(died, 1) as other:
            assert [one.communicate(timeout=60)[0], other.communicate(timeout=60)[0]] == ["3\n", "3\n"]


def test_machines_that_cannot_meet_are_told_so_at_once(tmp_path: Path) -> None:
    folder = project(tmp_path / "p", devices=1, nodes=2)
    done = sh(*COMMAND, cwd=folder, check=False)
    assert done.returncode == 1
    assert "PET_RDZV_ENDPOINT does not say where they meet" in done.stdout
