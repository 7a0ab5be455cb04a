"""`plantops watch`: what it costs while nothing moves, and how soon after a change its run starts.

Aims: under 0.5 % of a core on 54,000 photos and 100 .dvc files; under a second from the end of a burst to the run.

Idle is measured for a while at the default interval: utime + stime and the resident memory, from /proc. A change is a
new seed in params.yaml; its time runs from that write to the start of the run in the store, less
watch.settle_seconds. The runs themselves fail at once: their stage is `exit 3`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import common
import yaml
from common import Bench, table, tool

from plantops import detect, dvc, store
from plantops.store import Store

HEAD = ["`.dvc` files, photos", "idle: share of a core", "resident", "to the run's start: p50", "p99", "slowest"]
SIZES = ["1x1000", "100x1000", "1x10000", "100x10000", "1000x10000", "1x54000", "100x54000", "1000x54000"]
SETTLE_S = 0.5


def main() -> None:
    """Print the table."""
    parser = common.sized(common.arguments(__doc__))
    parser.add_argument("--seconds", type=float, default=120, help="how long the idle watch is measured")
    parser.set_defaults(sizes=SIZES, rounds=50)
    options = parser.parse_args()
    with common.workplace(options.work) as bench:
        print(table(HEAD, [_measure(bench, size, options) for size in options.sizes]))


def _measure(bench: Bench, size: str, options: argparse.Namespace) -> list[object]:
    project = bench.folder / f"watch-{size}"
    if not (project / ".plantops").is_dir():
        _make(bench, project, size)
    _settle(project)
    with _watching(bench, project) as watch:
        share, resident = _idle(watch.pid, options.seconds)
        times = sorted(_latency(project, number) for number in range(options.rounds))
    p99 = times[min(len(times) - 1, round(0.99 * (len(times) - 1)))]
    shown = [f"{1e3 * one:,.0f} ms" for one in (statistics.median(times), p99, times[-1])]
    files, photos = size.split("x")
    return [f"{int(files):,}, {int(photos):,}", f"{100 * share:.2f} %", f"{resident / 2**20:.0f} MiB", *shown]


def _make(bench: Bench, project: Path, size: str) -> None:
    """A project with that many .dvc files; one of them is over a tree of two classes."""
    common.new_project(bench, project.name)
    raw = project / common.RAW
    common.draw(raw, size.replace("1x", "2x", 1) if size.startswith("1x") else size)
    pipeline = yaml.safe_load((project / "dvc.yaml").read_text())
    pipeline["stages"] = {"prepare_data": {"cmd": "exit 3", "deps": [str(common.RAW)], "params": ["seed"]}}
    (project / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    limits = {"settle_seconds": SETTLE_S, "max_retries": 0, "max_runs_per_hour": 1_000_000}
    common.change(project / "config.yaml", watch=limits)
    targets = sorted(one for one in raw.iterdir() if one.is_dir())
    if size.startswith("1x"):
        targets = [raw]
        bench.run(["git", "rm", "-rqf", "--ignore-unmatch", str(common.RAW)], project)
    bench.run([tool("dvc"), "add", "--quiet", *(str(one.relative_to(project)) for one in targets)], project)
    bench.commit(project, "Add photos")
    subprocess.run([tool("plantops"), "run"], cwd=project, env=bench.env, capture_output=True, check=False)


def _settle(project: Path) -> None:
    """Have the store say that the inputs as they are need no run."""
    inputs = dvc.inputs(project)
    with Store(project / ".plantops") as state:
        run = state.begin("benchmark", {}, detect.fingerprint(inputs), inputs)
        state.finish(run, store.ACCEPTED, inputs)


@contextlib.contextmanager
def _watching(bench: Bench, project: Path) -> Iterator[subprocess.Popen[str]]:
    """`plantops watch`, at rest."""
    watch = subprocess.Popen(
        [sys.executable, "-u", "-m", "plantops", "watch"], cwd=project, env=bench.env, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert watch.stdout
        for line in watch.stdout:
            if "no changes" in line:
                break
        else:
            sys.exit("watch ended by itself")
        with subprocess.Popen(["cat"], stdin=watch.stdout, stdout=subprocess.DEVNULL):
            time.sleep(2)  # the events of its own start
            yield watch
            watch.send_signal(signal.SIGTERM)
            watch.wait()
    finally:
        watch.kill()


def _idle(pid: int, seconds: float) -> tuple[float, int]:
    """(share of a core, resident bytes)."""
    before, began = _ticks(pid), time.monotonic()
    time.sleep(seconds)
    used = (_ticks(pid) - before) / os.sysconf("SC_CLK_TCK")
    share = used / (time.monotonic() - began)
    resident = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return share, int(resident.split()[1]) * 1024


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _latency(project: Path, number: int) -> float:
    """Seconds from a change to the start of its run, less the settling. Returns when that run is over."""
    before = _runs(project)
    common.change(project / "params.yaml", seed=1000 + number + 1000 * before)
    changed = time.time()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with Store(project / ".plantops", readonly=True) as state:
            last = state.last_run()
        if last and last.ended and _runs(project) > before:
            time.sleep(SETTLE_S + 0.5)  # the run's own events are looked at
            return datetime.fromisoformat(last.started).timestamp() - changed - SETTLE_S
        time.sleep(0.05)
    sys.exit(f"no run within two minutes: {project}")


def _runs(project: Path) -> int:
    with Store(project / ".plantops", readonly=True) as state:
        return sum(state.outcomes().values())


if __name__ == "__main__":
    main()
