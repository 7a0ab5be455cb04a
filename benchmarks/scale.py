"""What prepare_data takes of time and memory as the photos grow, and a training as its processes do.

    python benchmarks/scale.py                                # prepare_data on 4,000, 40,000 and 400,000 drawn photos
    python benchmarks/scale.py --photos DIR --processes 1 2   # trainings of real photos, in turn

Aims: no pixels stay in memory, so that it grows by the list of photos alone; two processes reach the score of one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import common
from common import Bench, table


def main() -> None:
    """Print the tables."""
    options = _options()
    with common.workplace(options.work) as bench:
        if options.photos:
            head = ["processes", "seed", "best macro-F1 on validation photos", "seconds"]
            _show(head, _trained(bench, options))
        else:
            head = ["photos", "seconds", "photos a second", "peak MiB", "bytes a photo more than before"]
            _show(head, _prepared(bench, options.sizes))


def _show(head: list[str], rows: Iterator[list[object]]) -> None:
    """Row by row, as they come: the last may take an hour."""
    print(table(head, []), flush=True)
    for row in rows:
        print(table([str(cell) for cell in row], []).splitlines()[0], flush=True)


def _options() -> argparse.Namespace:
    parser = common.arguments(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument("--sizes", nargs="+", default=["38x4000", "38x40000", "38x400000"], help="classes x photos")
    parser.add_argument("--photos", type=Path, help="train on real photos, one folder per class")
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2], help="how many learn together")
    parser.add_argument("--size", type=int, default=128, help="side of the input of the model, pixels")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--small", type=int, default=10, help="epochs at three quarters of the size")
    return parser.parse_args()


def _prepared(bench: Bench, sizes: list[str]) -> Iterator[list[object]]:
    before = (0, 0)
    for size in sizes:
        project, count = common.new_project(bench, size), int(size.partition("x")[2])
        common.change(project / "params.yaml", model={"size": 32})
        common.draw(project / common.RAW, size)
        seconds, peak = bench.measured([sys.executable, "-m", "plantops.ml.data"], project)
        more = f"{(peak - before[1]) / (count - before[0]):,.0f}" if before[0] else ""
        yield [f"{count:,}", f"{seconds:.1f}", f"{count / seconds:,.0f}", f"{peak / 2**20:,.0f}", more]
        before = (count, peak)
        shutil.rmtree(project)


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
