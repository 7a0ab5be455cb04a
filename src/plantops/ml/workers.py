"""Several processes learn one model (``train.devices``, ``train.nodes``): torchrun starts them and replaces what dies.

The stage becomes torchrun's agent, and the agent starts the stage's module once for each device. When one process dies,
all are started again and go on from the last whole epoch (:mod:`plantops.ml.sharing`). What a user can mend is not
tried again: it is left in a file, and the stage says it. Why so: docs/decisions/0019-torchrun-inside-the-stage.md.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

from plantops.ahead import cores
from plantops.errors import PlantopsError, StepFailed
from plantops.ml.batches import ALONE, Share
from plantops.ml.files import CHECKPOINT_FOLDER, write_json
from plantops.ml.frameworks import torch
from plantops.ml.params import Params

UNFINISHED = CHECKPOINT_FOLDER / "unfinished"  # what processes leave for those that replace them
RESTARTS = 3
MEETING = "PET_RDZV_ENDPOINT"  # torchrun's own name for --rdzv-endpoint
_RUN = "plantops"
_SILENCE = timedelta(minutes=5)  # one that the others wait for longer than this is taken for dead
_LOOK_S = 0.05
_TAIL = 15
_PR_SET_PDEATHSIG = 1


def inside() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def share() -> Share:
    """Which of how many processes this is."""
    return Share(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if inside() else ALONE


def on_gpu(params: Params) -> bool:
    """Whether to train on GPUs. Raises StepFailed where there are not as many as asked for."""
    train, found = params.train, torch.cuda.device_count()
    if train.accelerator == "gpu" and not found:
        raise StepFailed("train.accelerator is gpu, and torch finds none", "set it to auto or cpu in params.yaml")
    if train.accelerator == "cpu" or not found:
        return False
    if found < train.devices:
        raise StepFailed(f"train.devices is {train.devices}, and torch finds {found} GPUs", f"train.devices: {found}")
    return True


def launch(params: Params) -> None:
    """Have ``train.devices`` processes here, and those of the other nodes, run the stage's module.

    Raises StepFailed: what one of them could say, or how they ended.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    train = params.train
    on_gpu(params)
    UNFINISHED.mkdir()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // train.devices)))
    _hush()
    config = LaunchConfig(
        min_nodes=train.nodes,
        max_nodes=train.nodes,
        nproc_per_node=train.devices,
        run_id=_RUN,
        max_restarts=RESTARTS,
        shutdown_timeout=5,
        # A survivor's complaint about the one that died is no news; it is shown when the training fails.
        logs_specs=DefaultLogsSpecs(log_dir=str(UNFINISHED), redirects=Std.ERR),
        rdzv_backend="c10d",
        **_meeting(train.nodes),
    )
    try:
        elastic_launch(config, sys.executable)("-u", "-m", "plantops.ml.train")
    except SignalException as ended:
        _end_by(ended.sigval)
    except ChildFailedError as error:
        _raise_told()
        raise _died(error.failures) from None
    except RendezvousError as error:
        raise StepFailed(
            f"the {train.nodes} nodes of train.nodes did not come together: {str(error) or type(error).__name__}",
            "start torchrun on the others (docs/scale.md)",
        ) from None
    _raise_told()
    shutil.rmtree(UNFINISHED)


def work(params: Params, train: Callable[[], None]) -> None:
    """Run ``train`` as one of several processes. Of these, the first alone prints and writes."""
    # An agent that is killed leaves nothing behind that goes on writing: prctl(2).
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if any(_told()):
        return
    mine = share()
    if mine.rank:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    try:
        _join(params, mine)
        train()
    except PlantopsError as error:
        # Ended as if all were well, for torchrun would try whatever ends otherwise again.
        print(f"error: {error.message}\n  try: {error.hint}", file=sys.stderr)
        write_json(UNFINISHED / f"failed-{mine.rank}.json", {"message": error.message, "hint": error.hint})
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def left(path: Path) -> bool:
    """Whether processes before these left ``path``. The first looks and tells the others: it is one answer for all."""
    if not inside():
        return False
    found = torch.tensor(int(path.is_file()))
    torch.distributed.broadcast(found, 0)
    if found:
        print("a process died: all were started again, and go on from the last whole epoch")
    return bool(found)


def _join(params: Params, mine: Share) -> None:
    """Connect with the other processes. Raises StepFailed where these are not those that params.yaml asks for."""
    train = params.train
    if mine.of != train.processes:
        raise StepFailed(
            f"torchrun started {mine.of} processes; train.devices x train.nodes is {train.processes}",
            f"torchrun --nnodes {train.nodes} --nproc-per-node {train.devices}",
        )
    if not UNFINISHED.is_dir():
        raise StepFailed(
            f"{UNFINISHED} is not here: the first node makes it, and all nodes share the project's folder",
            "dvc repro on the first node, torchrun on the others (docs/scale.md)",
        )
    alone = os.environ["TORCHELASTIC_USE_AGENT_STORE"] != str(True)
    store: torch.distributed.Store
    if alone:
        name = f"group-{os.environ['TORCHELASTIC_RESTART_COUNT']}"
        store = torch.distributed.FileStore(str(UNFINISHED / name), mine.of)
    else:
        store = _met(mine)
    backend = "cpu:gloo,cuda:nccl" if on_gpu(params) else "gloo"
    torch.distributed.init_process_group(
        backend, store=store, rank=mine.rank, world_size=mine.of, timeout=_SILENCE
    )  # fmt: skip


def _met(mine: Share) -> torch.distributed.Store:
    """A part of the agents' store that these processes alone have. Raises TimeoutError when they do not come together.

    torchrun's own part is called after the restarts of an agent. Agents count these differently when a process dies:
    who goes along with another's restart counts none. Then processes would read the addresses of those that ended.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    told = torch.distributed.PrefixStore("plantops", torch.distributed.TCPStore(address, port, timeout=_SILENCE))
    me, deadline = uuid.uuid4().hex, time.monotonic() + _SILENCE.total_seconds()
    told.set(f"member-{mine.rank}", me)
    while time.monotonic() < deadline:
        if mine.rank == 0:
            group = "-".join(told.get(f"member-{rank}").decode() for rank in range(mine.of))
            told.set("group", group)
            if all(told.check([f"{group} {rank}"]) for rank in range(1, mine.of)):
                told.set(f"{group} whole", "")
                return torch.distributed.PrefixStore(group, told)
        else:
            group = told.get("group").decode()
            if me in group:
                told.set(f"{group} {mine.rank}", "")
                if told.check([f"{group} whole"]):
                    return torch.distributed.PrefixStore(group, told)
        time.sleep(_LOOK_S)
    raise TimeoutError(f"the other processes did not come within {_SILENCE}")


def _meeting(nodes: int) -> dict[str, Any]:
    """How the agents find each other. On one machine by a file, so that nothing listens beyond it."""
    if nodes == 1:
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        file = str(UNFINISHED / "meeting")
        return {"rdzv_endpoint": file, "rdzv_configs": {"store_type": "file"}, "local_addr": "127.0.0.1"}
    endpoint = os.environ.get(MEETING, "")
    host, _, port = endpoint.rpartition(":")
    if not (host and port.isdecimal()):
        raise StepFailed(
            f"train.nodes is {nodes}, and {MEETING} does not say where they meet",
            f"export {MEETING}=ADDRESS:29400, an address of this machine that the others reach",
        )
    return {"rdzv_endpoint": endpoint, "rdzv_configs": {"is_host": True}, "local_addr": host.strip("[]")}


def _hush() -> None:
    """torchrun's own remarks say in many words what :func:`_died` says in one."""
    logging.getLogger("torch.distributed").handlers = [logging.NullHandler()]  # torch lets it hand on nothing


def _told() -> list[Path]:
    return sorted(UNFINISHED.glob("failed-*.json"))


def _raise_told() -> None:
    for path in _told():
        raise StepFailed(**json.loads(path.read_text(encoding="ascii")))


def _died(failures: dict[int, Any]) -> StepFailed:
    """How the last try ended, by the process whose end was not another's doing."""
    # Killed from outside; or ended by itself; or (SIGTERM) ended by the agent because another had.
    rank, first = min(failures.items(), key=lambda one: (one[1].exitcode == -signal.SIGTERM, one[1].exitcode > 0))
    how = f"was ended by {first.signal_name()}" if first.exitcode < 0 else f"ended with status {first.exitcode}"
    said = f"training died {RESTARTS + 1} times; the last time process {rank} {how}"
    logs = sorted(UNFINISHED.glob(f"*/attempt_*/{first.local_rank}/stderr.log"))
    tail = logs[-1].read_text(errors="replace").splitlines()[-_TAIL:] if logs else []
    lines = "".join(f"\n    {line}" for line in tail)
    return StepFailed(said + lines, "smaller train.batch_size or fewer train.devices where memory ran out (dmesg)")


def _end_by(signum: signal.Signals) -> NoReturn:
    """End as a program ends that does not catch the signal."""
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
    raise SystemExit(128 + signum)
