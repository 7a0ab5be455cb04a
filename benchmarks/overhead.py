"""A whole `plantops run` against the bare commands in a twin project: `dvc repro`, and the API started by hand.

Each round takes another seed in both projects, so that every stage runs and a new model is judged against the one in
service, released and switched to. Aim: under 5 % of a run of a few minutes. What the bare commands do not do at all
is part of it: recording in MLflow, judging, releasing, watching (deploy.watch_seconds is waiting by design).
"""

from __future__ import annotations

import http.client
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import common
from common import Bench, table, tool

from plantops.store import Store

WATCH = "watch"
LENGTHS_S = (120, 300, 900)
FIRST_SEED = 11  # not the one in params.yaml


@dataclass(frozen=True)
class Round:
    """Seconds of one run: by the bare commands (stages, API), and by plantops (whole, and each step).

    ``work``: seconds of processor that plantops took more, its API and the one started by hand left out.
    """

    bare: tuple[float, float]
    whole: float
    steps: dict[str, float]
    work: float

    @property
    def extra(self) -> float:
        """What plantops takes longer, its waiting left out."""
        return self.whole - self.steps[WATCH] - sum(self.bare)


def main() -> None:
    """Print the tables."""
    parser = common.arguments(__doc__)
    parser.add_argument("--per-class", type=int, default=20, help="drawn leaves of each of the six classes")
    parser.add_argument("--epochs", type=int, default=2)
    parser.set_defaults(rounds=3)
    options = parser.parse_args()
    with common.workplace(options.work) as bench:
        ours, bare = _twins(bench, options.per_class, options.epochs)
        with common.serving(bench, ours):
            first, *rounds = [_round(bench, ours, bare, FIRST_SEED + n) for n in range(options.rounds + 1)]
    print(_parts(first, rounds), "\n")
    print(_shares(rounds))


def _twins(bench: Bench, per_class: int, epochs: int) -> tuple[Path, Path]:
    ours, bare = bench.folder / "ours", bench.folder / "bare"
    for folder in (ours, bare):
        shutil.rmtree(folder, ignore_errors=True)
    common.new_project(bench, ours.name)
    bench.run([tool("plantops"), "sample", "--per-class", str(per_class)], ours)
    common.change(ours / "params.yaml", train={"epochs": epochs, "small_epochs": 0, "patience": epochs})
    classes = sorted(str(one.relative_to(ours)) for one in (ours / common.RAW).iterdir() if one.is_dir())
    bench.run([tool("dvc"), "add", "--quiet", *classes], ours)
    bench.commit(ours, "Add leaves")
    shutil.copytree(ours, bare, symlinks=True)
    return ours, bare


def _round(bench: Bench, ours: Path, bare: Path, seed: int) -> Round:
    for folder in (ours, bare):
        common.change(folder / "params.yaml", seed=seed)
        bench.commit(folder, f"Seed {seed}")
    commands = {ours: [tool("plantops"), "run"], bare: [tool("dvc"), "repro"]}
    # The second in a row finds a warmer machine: take turns.
    order = [ours, bare] if seed % 2 else [bare, ours]
    cost = {folder: _cost(bench, commands[folder], folder) for folder in order}
    stages, whole = cost[bare], cost[ours]
    return Round((stages[0], _api(bench, bare)), whole[0], _steps(ours), whole[1] - stages[1])


def _cost(bench: Bench, argv: Sequence[str], project: Path) -> tuple[float, float]:
    """Seconds on the clock, and seconds of processor with those of all programs it waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = bench.clock(argv, project)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _api(bench: Bench, project: Path) -> float:
    """Seconds until the API, started by hand, is healthy."""
    began, port = time.perf_counter(), common.free_port()
    argv = [sys.executable, "-m", "plantops.serve", "--bundle", "models/candidate", "--port", str(port)]
    api = subprocess.Popen(argv, cwd=project, env=bench.env, stderr=subprocess.DEVNULL)
    try:
        while not _healthy(port):
            if api.poll() is not None or time.perf_counter() - began > 60:
                sys.exit("the API started by hand did not get healthy")
            time.sleep(0.02)
        return time.perf_counter() - began
    finally:
        api.terminate()
        api.wait()


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _steps(project: Path) -> dict[str, float]:
    """Seconds of each step of the last run, as the store has them."""
    with Store(project / ".plantops", readonly=True) as store:
        last = store.last_run()
        assert last, "a run has just ended"
        rows = store.steps(last.id)
    return {one.name: _time(one.ended) - _time(one.started) for one in rows}


def _time(text: str | None) -> float:
    assert text, "a step of a run that has ended has ended"
    return datetime.fromisoformat(text).timestamp()


def _parts(first: Round, rounds: Sequence[Round]) -> str:
    """Where the time goes: medians, and the first run, which has no champion and makes MLflow's database."""
    names = list(rounds[0].steps)
    beside = {"reproduce": lambda one: one.bare[0], "try": lambda one: one.bare[1]}
    rows = [
        [name, _s([one.steps[name] for one in rounds]), _s([first.steps[name]]),
         _s([beside[name](one) for one in rounds]) if name in beside else ""]
        for name in names
    ]  # fmt: skip
    around = [one.whole - sum(one.steps.values()) for one in (first, *rounds)]
    rows.append(["before, between and after", _s(around[1:]), _s(around[:1]), ""])
    sums = [sum(one.bare) for one in rounds]
    rows.append(["all", _s([one.whole for one in rounds]), _s([first.whole]), _s(sums)])
    return table(["step", "plantops, s", "plantops, first run, s", "bare commands, s"], rows)


def _shares(rounds: Sequence[Round]) -> str:
    extra = statistics.median(one.extra for one in rounds)
    work = statistics.median(one.work for one in rounds)
    here = statistics.median(100 * one.extra / sum(one.bare) for one in rounds)
    waited = statistics.median(one.steps[WATCH] for one in rounds)
    rows = [["longer than the bare commands, waiting left out", f"{extra:.1f} s"]]
    rows += [["in seconds of processor, the API left out", f"{work:.1f} s"]]
    rows += [["waiting by design (deploy.watch_seconds)", f"{waited:.1f} s"], ["share of this run", f"{here:.1f} %"]]
    rows += [[f"the same seconds on {one} s of bare commands", f"{100 * extra / one:.1f} %"] for one in LENGTHS_S]
    return table(["overhead", "median"], rows)


def _s(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f}"


if __name__ == "__main__":
    main()
