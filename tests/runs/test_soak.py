"""The long ring: a random walk of changes, kills, rollbacks and runs under load. `scripts/soak [MINUTES]`."""

from __future__ import annotations

import os
import random
import re
import time
from pathlib import Path

import pytest

from conftest import plantops
from runs.cheap import RAW, answering, commit, edit, leaves, make, state
from runs.test_faults import POINTS, Asker, strike, whole

pytestmark = [pytest.mark.soak, pytest.mark.timeout(24 * 3600)]


def parameter(folder: Path, dice: random.Random) -> None:
    seed = re.search(r"^seed: (\d+)", (folder / "params.yaml").read_text(), re.MULTILINE)[1]
    edit(folder / "params.yaml", f"seed: {seed}", f"seed: {dice.randrange(10**6)}")


def comment(folder: Path, dice: random.Random) -> None:
    (folder / "params.yaml").write_text((folder / "params.yaml").read_text() + f"# {dice.random()}\n")


def more_photos(folder: Path, dice: random.Random) -> None:
    name = dice.choice(sorted(one.name for one in (folder / RAW).iterdir() if one.is_dir()))
    leaves(folder / RAW / name, (dice.randrange(256), dice.randrange(256), 128), 3, seed=dice.randrange(10**6))
    commit(folder, "More photos")


def run(folder: Path, dice: random.Random) -> None:
    assert plantops("run", cwd=folder, check=False).returncode in (0, 4)


def force(folder: Path, dice: random.Random) -> None:
    assert plantops("run", "--force", cwd=folder, check=False).returncode in (0, 4)


def killed(folder: Path, dice: random.Random) -> None:
    name, moment = dice.choice(POINTS)
    strike(folder, dice.choice(["kill", "interrupt"]), name, moment)


def rollback(folder: Path, dice: random.Random) -> None:
    assert plantops("rollback", cwd=folder, check=False).returncode in (0, 2)


MOVES = (parameter, parameter, comment, more_photos, run, run, force, killed, killed, rollback)


def test_random_walk(tmp_path: Path) -> None:
    """The API answers throughout, and whenever a run comes to its end everything agrees and nothing is owed."""
    number = int(os.environ.get("SOAK_SEED", "1"))
    dice, until = random.Random(number), time.monotonic() + 60 * float(os.environ.get("SOAK_MINUTES", "10"))
    folder = make(tmp_path / "project")
    plantops("run", cwd=folder)
    asker = Asker(folder)
    asker.start()
    moves = 0
    try:
        while time.monotonic() < until:
            move = dice.choice(MOVES)
            move(folder, dice)
            moves += 1
            if plantops("run", cwd=folder, check=False).returncode == 0:
                waiting = state(folder)["waiting"]
                assert not waiting["due"], f"after {move.__name__}, seed {number}: {waiting}"
                whole(folder, finished=("released", "unchanged", "refused", "accepted"))
            assert "" not in asker.seen, f"the API was away after {move.__name__}, seed {number}"
        print(f"{moves} moves, seed {number}, {len(asker.seen)} releases answered, the last {answering(folder)}")
    finally:
        asker.stopped.set()
        asker.join()
        plantops("down", cwd=folder, check=False)
