"""What commands take as a project's releases grow: copies of one release, with a row of their own in the store.

Aim: what is asked often (status, check, history, rollback) takes no longer for 10,000 releases than for one. Time
is the processor's, of all cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import common
from common import Bench, table, tool

from plantops.artifacts import RELEASE_FILE
from plantops.shelf import Shelf
from plantops.store import Release, Store

COMMANDS = {
    "status": ["status"],
    "check": ["check"],
    "history": ["history"],
    "show": ["show"],
    "releases": ["releases"],
    "gc --dry-run": ["gc", "--dry-run"],
}


def main() -> None:
    """Print the table."""
    options = _options()
    with common.workplace(options.work) as bench, common.settled(bench, "3x240", None) as project:
        rows = [row for count in options.counts for row in _rows(bench, project, count, options.rounds)]
    names = [*COMMANDS, "rollback"]
    head = ["releases", *(f"`{name}`, CPU ms (on the clock)" for name in names)]
    print(table(head, rows))


def _options() -> argparse.Namespace:
    parser = common.arguments(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument("--counts", nargs="+", type=int, default=[2, 100, 1_000, 10_000])
    return parser.parse_args()


def _rows(bench: Bench, project: Path, count: int, rounds: int) -> Iterator[list[object]]:
    _fill(project, count)
    cells = [_least(bench, project, argv, rounds) for argv in COMMANDS.values()]
    yield [f"{count:,}", *cells, _least(bench, project, ["rollback"], 1)]


def _least(bench: Bench, project: Path, argv: list[str], rounds: int) -> str:
    used = [bench.measured([tool("plantops"), *argv], project) for _ in range(rounds)]
    return f"{1e3 * min(one.work for one in used):,.0f} ({1e3 * min(one.seconds for one in used):,.0f})"


def _fill(project: Path, count: int) -> None:
    """As many releases, the newest in service; of the one that there was, by hard links."""
    shelf = Shelf(project / "models")
    with Store(project / ".plantops") as store:
        now = store.in_service()
        assert now, "the project has a release in service"
        code = store.serving_code()
        missing = range(len(store.releases()), count)
        made = [_copy(shelf, replace(now, id=f"{number:07x}-{now.id[-12:]}")) for number in missing]
        with store.transaction():
            for one in made:
                store.add_release(one)
                store.put_in_service(one.id, code, "benchmark")
            store.put_in_service(now.id, code, "benchmark")


def _copy(shelf: Shelf, release: Release) -> Release:
    source, target = next(shelf.releases.glob("[!.]*")), shelf.release(release.id)
    shutil.copytree(source, target, copy_function=os.link)
    facts = json.loads((target / RELEASE_FILE).read_text())
    (target / RELEASE_FILE).unlink()
    (target / RELEASE_FILE).write_text(json.dumps({**facts, "release": release.id}))
    return release


if __name__ == "__main__":
    main()
