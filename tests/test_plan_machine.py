"""What starts a run, as a state machine: random changes, runs, faults and looks, against a model of a few lines.

Files, inputs, plan and store are the real ones; a run is what `pipeline` does with them, without the hour of training.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from plantops import dvc, lock, plan
from plantops.errors import Busy
from plantops.store import FAILED, REFUSED, RELEASED, Release, Store, now

RAW = "data/raw/PlantVillage"
CLASSES = st.sampled_from(["Apple", "Pepper,_bell___healthy", "Late blight"])
STAGES = {
    "prepare_data": {"cmd": "prepare", "deps": [RAW], "params": ["seed"], "outs": ["data/prepared"]},
    "train": {
        "cmd": "train", "deps": ["data/prepared"], "params": ["train"], "outs": ["models/x"], "always_changed": True,
    },
}  # fmt: skip
KILLED = ("killed before dvc", "killed after dvc", "killed after promote")
CHANGES = st.sampled_from(["param", "class", "stage"])


class Trigger(RuleBasedStateMachine):
    """``wanted``: what the user asks for. ``settled``: what the last settled run was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.store = Store(self.root / ".plantops")
        self.wanted: dict[str, Any] = {"param": 0, "class": {}, "stage": 0, "lock": 0}
        self.settled: dict[str, Any] | None = None
        self.owed: list[dict[str, Any]] = []
        self.count = self.runs = 0

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.root)

    @initialize(name=CLASSES)
    def start(self, name: str) -> None:
        (self.root / RAW).mkdir(parents=True)
        self._write_lock({})
        self._write()
        self.photos(name)

    # The user's hands.

    @rule()
    def comment(self) -> None:
        self.count += 1
        for path in [self.root / "params.yaml", self.root / "dvc.yaml", *(self.root / RAW).glob("*.dvc")]:
            path.write_text(f"# {self.count}\n" + path.read_text().replace("\n", "\r\n"), newline="")

    @rule(change=CHANGES)
    def change(self, change: str) -> None:
        self.count += 1
        if change == "class":
            self.photos("Apple")
        else:
            self.wanted[change] = self.count
            self._write()

    @rule(name=CLASSES)
    def photos(self, name: str) -> None:
        """`dvc add` of a class, new or grown."""
        self.count += 1
        self.wanted["class"] = {**self.wanted["class"], name: self.count}
        out = {"md5": hashlib.md5(f"{name}{self.count}".encode()).hexdigest() + ".dir", "nfiles": 3, "path": name}
        (self.root / RAW / f"{name}.dvc").write_text(yaml.safe_dump({"outs": [out]}))

    @precondition(lambda self: self.settled is not None)
    @rule()
    def undo(self) -> None:
        """Back to the parameters and the stage that the last settled run was asked for."""
        self.wanted |= {key: self.settled[key] for key in ("param", "stage")}
        self._write()

    @rule()
    def change_and_back(self) -> None:
        """What is as it was is no change."""
        path = self.root / "params.yaml"
        before = path.read_bytes()
        path.write_text("train: {lr: 12345}\n")
        path.write_bytes(before)

    @rule()
    def colleagues_lock(self) -> None:
        """`git pull` brought a dvc.lock."""
        self.count += 1
        self.wanted["lock"] = self.count
        self._write_lock({"cmd": f"by a colleague {self.count}"})

    @rule()
    def half_written_and_whole_again(self) -> None:
        path = self.root / "dvc.yaml"
        whole = path.read_bytes()
        path.write_bytes(b"stages: {train: [")
        path.unlink()
        path.write_bytes(whole)

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = Store(self.root / ".plantops")

    @precondition(lambda self: self.store.in_service() is not None)
    @rule()
    def rollback(self) -> None:
        """What is in service is not what starts a run."""
        current = self.store.in_service()
        self.store.add_release(Release(f"older-{self.count}", now(), None, "0", False, None, None, None))
        self.store.put_in_service(f"older-{self.count}", "code", "rollback", withdraw=current.id)

    # A run.

    @rule(
        outcome=st.sampled_from([RELEASED, RELEASED, REFUSED, FAILED, *KILLED]),
        while_preparing=st.none() | CHANGES,
        while_training=st.none() | CHANGES,
        forced=st.booleans(),
    )
    def run(self, outcome: str, while_preparing: str | None, while_training: str | None, forced: bool) -> None:
        with lock.hold(self.root / ".plantops"):
            self._run(outcome, while_preparing, while_training, forced)

    def _run(self, outcome: str, while_preparing: str | None, while_training: str | None, forced: bool) -> None:
        self.store.bury_dead()
        todo = plan.make(self.root, self.store)
        if not (todo.due or forced):
            return
        asked = {**self.wanted}
        run = self.store.begin("watch", {}, todo.fingerprint, todo.inputs)
        self.runs += 1
        with pytest.raises(Busy), lock.hold(self.root / ".plantops", patience=0):
            pass
        if while_preparing:
            self.change(while_preparing)
        if outcome == "killed before dvc":
            self.owed.append({**asked, "locks": None})
            return
        self._write_lock({"cmd": "train", "outs": [{"path": "models/x", "md5": f"{self.runs}"}]})
        if while_training:
            self.change(while_training)
        if outcome == "killed after promote":
            self._release(run)
        if outcome in KILLED:
            self.owed.append({**asked, "locks": None})
            self.wanted["lock"] = f"of the killed run {run}"  # nobody recorded who wrote it
            return
        began, asked["lock"] = asked["lock"], f"run {run}"
        self.wanted["lock"] = asked["lock"]
        left = plan.left_behind(todo.inputs, dvc.inputs(self.root), {})
        release = self._release(run) if outcome == RELEASED else None
        self.store.finish(run, outcome, left, release, "why" if outcome == FAILED else None)
        if outcome == FAILED:
            self.owed.append({**asked, "locks": {began, asked["lock"]}})
            if self.settled:
                self.settled = {**self.settled, "lock": asked["lock"]}  # its dvc.lock is ours, too
        else:
            self.settled, self.owed = asked, []

    def _release(self, run: str) -> str:
        release = f"r{self.runs}"
        self.store.add_release(Release(release, now(), run, f"d{self.runs}", False, None, None, None))
        self.store.put_in_service(release, "code", f"run {run}")
        return release

    # What must hold, always.

    @invariant()
    def no_change_is_lost_and_nothing_runs_without_one(self) -> None:
        if not (self.root / "dvc.yaml").exists():
            return
        todo = plan.make(self.root, self.store)
        given = [key for key in self.wanted if key != "lock"]
        owed = [one for one in self.owed if all(one[key] == self.wanted[key] for key in given)]
        assert len(todo.owed) == len(owed)
        mended = bool(owed and owed[-1]["locks"]) and self.wanted["lock"] not in owed[-1]["locks"]
        assert len(todo.tries) == (0 if mended else len(owed)), "a lock that none of them had is one more try"
        assert todo.due == (self.settled is None or self.wanted != self.settled or bool(owed)), todo.sentences()

    @invariant()
    def looking_changes_no_answer(self) -> None:
        if not (self.root / "dvc.yaml").exists():
            return
        with Store(self.root / ".plantops", readonly=True) as reader:
            first, second = plan.make(self.root, reader), plan.make(self.root, reader)
        assert first == second == plan.make(self.root, self.store)

    def _write(self) -> None:
        stages = {**STAGES, "train": {**STAGES["train"], "cmd": f"train {self.wanted['stage']}"}}
        (self.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
        (self.root / "params.yaml").write_text(yaml.safe_dump({"seed": 1, "train": {"lr": self.wanted["param"]}}))

    def _write_lock(self, train: dict[str, Any]) -> None:
        stages = {"train": train} if train else {}
        (self.root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


Trigger.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestTrigger = pytest.mark.ci(pytest.mark.timeout(300)(Trigger.TestCase))
