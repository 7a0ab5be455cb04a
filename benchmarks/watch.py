"""The trigger on many photos and .dvc files: one look, a watch at rest, and how soon after a change its run starts.

Aims: `check --deep` well under a second on 54,000 photos; an idle watch under 0.5 % of a core on 54,000 photos and 100
.dvc files; under a second from the end of a burst to the run.

Looks are timed in turn with `dvc status` and `dvc data status`, in a project where there is nothing to do. Idle is
measured at the default interval: utime + stime and the resident memory, from /proc. A change is a new seed in
params.yaml; its time runs from that write to the start of the run in the store, less watch.settle_seconds. The runs
themselves fail at once: by then their stage finds a file named `fails`.
"""

from __future__ import annotations

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
from common import Bench, Times, ratio, table, tool

from plantops import detect, dvc, store
from plantops.store import Store

FILES, PHOTOS = "`.dvc` files", "photos"
LOOKS = [FILES, PHOTOS, "command", "median (quickest)", "memory", "`dvc status` / it", "`dvc data status` / it"]
IDLE = [FILES, PHOTOS, "idle: share of a core", "resident"]
STARTS = [FILES, PHOTOS, "changes", "to the run's start: p50", "p99", "slowest"]
SIZES = [f"{files}x{photos}" for photos in (1000, 10000, 54000) for files in (1, 100, 1000)]
SETTLE_S = 0.5


def main() -> None:
    """Print the tables."""
    parser = common.sized(common.arguments(__doc__))
    parser.add_argument("--seconds", type=float, default=90, help="how long the idle watch is measured")
    parser.add_argument("--changes", type=int, default=50, help="how many changes are timed")
    parser.add_argument("--changed", nargs="*", default=[SIZES[1], SIZES[7]], help="the sizes in which they are made")
    parser.set_defaults(sizes=SIZES, rounds=5)
    options = parser.parse_args()
    looks, idle, starts = [], [], []
    with common.workplace(options.work) as bench:
        for size in options.sizes:
            project = _project(bench, size)
            looks += [[*_of(size), *row] for row in _looks(bench, project, options.rounds)]
            with _watching(bench, project) as watch:
                idle.append([*_of(size), *_idle(watch.pid, options.seconds)])
                if size in options.changed:
                    starts.append([*_of(size), options.changes, *_starts(project, options.changes)])
            print(f"{size}: {looks[-1]} {idle[-1]} {starts[-1:]}", file=sys.stderr, flush=True)
    print("\n\n".join(table(head, rows) for head, rows in ((LOOKS, looks), (IDLE, idle), (STARTS, starts))))


def _of(size: str) -> list[str]:
    return [f"{int(part):,}" for part in size.split("x")]


def _project(bench: Bench, size: str) -> Path:
    """A project with that many .dvc files, in which there is nothing to do; one alone is over a tree of two classes."""
    project = bench.folder / f"watch-{size}"
    if not (project / ".plantops").is_dir():
        _make(bench, project, size)
    (project / "fails").unlink(missing_ok=True)
    bench.run([tool("dvc"), "repro"], project)
    _settle(project)
    return project


def _make(bench: Bench, project: Path, size: str) -> None:
    common.new_project(bench, project.name)
    raw = project / common.RAW
    common.draw(raw, size.replace("1x", "2x", 1) if size.startswith("1x") else size)
    stage = {"cmd": "test ! -e fails", "deps": [str(common.RAW)], "params": ["seed"]}
    pipeline = yaml.safe_load((project / "dvc.yaml").read_text())
    pipeline["stages"] = {"prepare_data": stage}
    (project / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    limits = {"settle_seconds": SETTLE_S, "max_retries": 0, "max_runs_per_hour": 1_000_000}
    common.change(project / "config.yaml", watch=limits, deploy={"backend": "local"})
    targets = sorted(one for one in raw.iterdir() if one.is_dir())
    if size.startswith("1x"):
        targets = [raw]
        bench.run(["git", "rm", "-rqf", "--ignore-unmatch", str(common.RAW)], project)
    bench.run([tool("dvc"), "add", "--quiet", *(str(one.relative_to(project)) for one in targets)], project)
    bench.commit(project, "Add photos")
    (project / "fails").touch()
    subprocess.run([tool("plantops"), "run"], cwd=project, env=bench.env, capture_output=True, check=False)


def _looks(bench: Bench, project: Path, rounds: int) -> Iterator[list[object]]:
    """A row for each command: its name, time and memory, and how many times longer DVC's own take."""
    commands = {
        "`dvc status`": [tool("dvc"), "status"],
        "`dvc data status`": [tool("dvc"), "data", "status"],
        "`plantops check`": [tool("plantops"), "check"],
        "`plantops check --deep`": [tool("plantops"), "check", "--deep"],
    }
    for name, words in list(commands.items()):
        said = bench.run(words, project)
        if not any(one in said for one in ("up to date", "No changes", "no changes")):
            sys.exit(f"there is something to do in {project}: {name} says {said}")
    times: dict[str, Times] = bench.alternate(commands, project, rounds)
    status, data = times["`dvc status`"], times["`dvc data status`"]
    for name, one in times.items():
        ratios = [f"{ratio(slow, one):.1f}" for slow in (status, data)]
        yield [name, one.shown, f"{one.peak / 2**20:.0f} MiB", *ratios]


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
            try:
                time.sleep(2)  # the events of its own start
                yield watch
            finally:
                watch.send_signal(signal.SIGTERM)
                watch.wait()
    finally:
        watch.kill()


def _idle(pid: int, seconds: float) -> list[str]:
    """Share of a core and resident memory, in words."""
    before, began = _ticks(pid), time.monotonic()
    time.sleep(seconds)
    used = (_ticks(pid) - before) / os.sysconf("SC_CLK_TCK")
    share = used / (time.monotonic() - began)
    resident = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return [f"{100 * share:.2f} %", f"{int(resident.split()[1]) / 2**10:.0f} MiB"]


def _starts(project: Path, changes: int) -> list[str]:
    """Median, 99th percentile and slowest time from a change to the start of its run, in words."""
    (project / "fails").touch()
    times = sorted(_latency(project, number) for number in range(changes))
    p99 = times[round(0.99 * (len(times) - 1))]
    return [f"{1e3 * one:,.0f} ms" for one in (statistics.median(times), p99, times[-1])]


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
