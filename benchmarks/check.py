"""`plantops check` as a command against `dvc status` and `dvc data status`, and what its start is made of.

Aims: 5 times faster than `dvc status` and under 150 ms on 4,432 photos, 20 times on 54,000; `--help` under 150 ms.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import common
from common import Bench, Times, table, tool

from plantops import detect, dvc


def main() -> None:
    """Print the tables."""
    options = common.sized(common.arguments(__doc__)).parse_args()
    with common.workplace(options.work) as bench:
        print(table(HEAD, [row for one in _sizes(options) for row in _against_dvc(bench, one, options)]))
        print()
        print(table(["share of `plantops check`", "ms"], _imports(bench, bench.folder / _sizes(options)[0])))


HEAD = ["project", "command", "median (quickest)", "times faster than `dvc status`"]


def _sizes(options: argparse.Namespace) -> list[str]:
    return [options.photos.name] if options.photos else options.sizes


def _against_dvc(bench: Bench, size: str, options: argparse.Namespace) -> list[list[object]]:
    commands = {
        "`dvc status`": [tool("dvc"), "status"],
        "`dvc data status`": [tool("dvc"), "data", "status"],
        "`plantops check`": [tool("plantops"), "check"],
        "`plantops check --deep`": [tool("plantops"), "check", "--deep"],
        "`plantops --help`": [tool("plantops"), "--help"],
        "`python -c pass`": [sys.executable, "-c", "pass"],
    }
    with common.settled(bench, size, options.photos) as project:
        _expect(bench, project)
        times = bench.alternate(commands, project, options.rounds)
        inside = _fingerprint(project, options.rounds)
    rows = common.compared(size, times, "`dvc status`")
    return [*rows, [size, "the fingerprint alone, in a process", f"{1e3 * inside.median:.1f} ms", ""]]


def _expect(bench: Bench, project: Path) -> None:
    """Both must find nothing to do, or the comparison is none."""
    said = bench.run([tool("plantops"), "check"], project), bench.run([tool("dvc"), "status"], project)
    if "no changes" not in said[0] or "up to date" not in said[1]:
        sys.exit(f"the project is not settled: {said}")


def _fingerprint(project: Path, rounds: int) -> Times:
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        detect.fingerprint(dvc.inputs(project))
        seconds.append(time.perf_counter() - began)
    return Times(tuple(seconds))


def _imports(bench: Bench, project: Path) -> list[list[object]]:
    """Import time by package, as `-X importtime` tells it; the quickest of five."""
    best: dict[str, float] = {}
    for _ in range(5):
        spent: dict[str, float] = defaultdict(float)
        argv = [sys.executable, "-X", "importtime", "-m", "plantops", "check"]
        done = subprocess.run(argv, cwd=project, env=bench.env, capture_output=True, text=True, check=True)
        for line in done.stderr.splitlines():
            own, _, name = line.removeprefix("import time:").split("|")
            if own.strip().isdigit():
                spent[_package(name.strip())] += int(own) / 1e3
        best = {name: min(ms, best.get(name, ms)) for name, ms in spent.items()}
    return [[f"importing {name}", f"{ms:.0f}"] for name, ms in sorted(best.items(), key=lambda item: -item[1])]


def _package(module: str) -> str:
    top = module.partition(".")[0]
    if top in ("plantops", "typer", "yaml", "pydantic", "pydantic_core", "rich"):
        return top
    return "the standard library" if top in sys.stdlib_module_names else "others"


if __name__ == "__main__":
    main()
