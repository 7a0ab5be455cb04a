"""`plantops run` with nothing changed, its look at every photo included, against a `dvc repro` with nothing to do.

Aim: under 0.5 s.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import common
from common import Bench, Times, table, tool

from plantops import scan
from plantops.store import Store

HEAD = ["project", "command", "median (quickest)", "times faster than `dvc repro`"]


def main() -> None:
    """Print the table."""
    options = common.sized(common.arguments(__doc__)).parse_args()
    sizes = [options.photos.name] if options.photos else options.sizes
    with common.workplace(options.work) as bench:
        print(table(HEAD, [row for one in sizes for row in _measure(bench, one, options)]))


def _measure(bench: Bench, size: str, options: argparse.Namespace) -> list[list[object]]:
    commands = {"`dvc repro`": [tool("dvc"), "repro"], "`plantops run`": [tool("plantops"), "run"]}
    with common.settled(bench, size, options.photos) as project:
        said = [bench.run(argv, project) for argv in commands.values()]
        if "up to date" not in said[0] or "no changes" not in said[1] or "in service: " not in said[1]:
            sys.exit(f"there is something to do: {said}")
        times = bench.alternate(commands, project, options.rounds)
        looking = _scan(project, options.rounds)
    rows = common.compared(size, times, "`dvc repro`")
    return [*rows, [size, "of that, looking at the photos", looking.shown, ""]]


def _scan(project: Path, rounds: int) -> Times:
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        with Store(project / ".plantops") as store:
            found = scan.loose(project, project / common.RAW, store)
        seconds.append(time.perf_counter() - began)
        if found:
            sys.exit(f"photos moved while they were looked at: {found}")
    return Times(tuple(seconds))


if __name__ == "__main__":
    main()
