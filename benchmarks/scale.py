"""What prepare_data and `plantops data` take as the photos grow, and a training as its processes do.

    python benchmarks/scale.py                                # 1,000 to 400,000 drawn photos
    python benchmarks/scale.py --photos DIR --processes 1 2   # trainings of real photos, in turn

Aims: from 4,000 to 400,000 photos memory grows by less than a fifth; two processes reach the score of one. Time is the
processor's, of all cores, which other programs disturb less than they do the clock.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import common
from common import Bench, Used, table, tool


def main() -> None:
    """Print the tables."""
    options = _options()
    with common.workplace(options.work) as bench:
        if options.photos:
            head = ["processes", "seed", "best macro-F1 on validation photos", "seconds"]
            _show(head, _trained(bench, options))
        else:
            head = ["photos", "what", "CPU s", "CPU ms a photo", "cores in use", "peak MiB", "of the smallest's"]
            _show(head, _grown(bench, options.sizes))


def _show(head: list[str], rows: Iterator[list[object]]) -> None:
    """Row by row, as they come: the last may take an hour."""
    print(table(head, []), flush=True)
    for row in rows:
        print(table([str(cell) for cell in row], []).splitlines()[0], flush=True)


def _options() -> argparse.Namespace:
    parser = common.arguments(__doc__)
    parser.set_defaults(rounds=3)
    sizes = ["38x1000", "38x4000", "38x40000", "38x400000"]
    parser.add_argument("--sizes", nargs="+", default=sizes, help="classes x photos")
    parser.add_argument("--photos", type=Path, help="train on real photos, one folder per class")
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2], help="how many learn together")
    parser.add_argument("--size", type=int, default=128, help="side of the input of the model, pixels")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--small", type=int, default=10, help="epochs at three quarters of the size")
    return parser.parse_args()


def _grown(bench: Bench, sizes: list[str]) -> Iterator[list[object]]:
    smallest: dict[str, int] = {}
    for size in sizes:
        project, count = common.new_project(bench, size), int(size.partition("x")[2])
        common.change(project / "params.yaml", model={"size": 32})
        common.draw(project / common.RAW, size)
        for what, used in _used(bench, project):
            share = used.peak / smallest.setdefault(what, used.peak)
            speed = f"{1e3 * used.work / count:.3f}", f"{used.work / used.seconds:.1f}"
            yield [f"{count:,}", what, f"{used.work:.1f}", *speed, f"{used.peak / 2**20:,.0f}", f"{share:.2f}"]
        shutil.rmtree(project)


def _used(bench: Bench, project: Path) -> Iterator[tuple[str, Used]]:
    look = [tool("plantops"), "data", "--json"]
    yield "`plantops data`, first", bench.measured(look, project)
    yield "`plantops data`, again", bench.measured(look, project)
    yield "prepare_data", bench.measured([sys.executable, "-m", "plantops.ml.data"], project)


def _trained(bench: Bench, options: argparse.Namespace) -> Iterator[list[object]]:
    project = common.new_project(bench, "training")
    shutil.copytree(options.photos, project / common.RAW, dirs_exist_ok=True)
    train = {"epochs": options.epochs, "small_epochs": options.small}
    common.change(project / "params.yaml", train=train, model={"size": options.size})
    bench.run([sys.executable, "-m", "plantops.ml.data"], project)
    for seed in range(1, options.rounds + 1):
        for processes in options.processes:
            # The split was made with the first seed and stays.
            common.change(project / "params.yaml", seed=seed, train={**train, "devices": processes})
            seconds = bench.clock([sys.executable, "-m", "plantops.ml.train"], project)
            score = json.loads((project / "metrics/train.json").read_text())["val_macro_f1"]
            yield [processes, seed, f"{score:.4f}", f"{seconds:.0f}"]


if __name__ == "__main__":
    main()
