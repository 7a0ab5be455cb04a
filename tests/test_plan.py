"""What is settled, owed and new, told apart: in words, and as values for machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from plantops import dvc, pipeline, plan
from plantops.config import load
from plantops.deploy import get
from plantops.store import FAILED, INTERRUPTED, REFUSED, RELEASED, Store
from test_detect import edit


@pytest.fixture
def state(project: Path) -> Store:
    """The project's store, with its inputs settled."""
    with Store(project / ".plantops") as store:
        ended(store, project, RELEASED)
        yield store


def ended(store: Store, project: Path, outcome: str, error: str | None = None) -> str:
    """A run on the inputs as they are, and how it ended."""
    inputs = dvc.inputs(project)
    run = store.begin("test", {}, "", inputs)
    store.finish(run, outcome, inputs, error=error)
    return run


def told(store: Store, project: Path) -> tuple[list[str], dict]:
    todo = plan.make(project, store)
    return todo.sentences(), todo.to_dict()


def test_settled_new_owed_and_refused(project: Path, state: Store) -> None:
    said, values = told(state, project)
    assert (said, values["due"]) == (["no changes"], False)

    edit(project / "params.yaml", "lr: 0.002", "lr: 0.0005")
    said, values = told(state, project)
    assert said == ["params.yaml: train.lr 0.002 → 0.0005"]
    assert values["changes"] == [{"file": "params.yaml", "what": "train.lr 0.002 → 0.0005"}]
    assert values["stages"] == ["train", "evaluate", "export_model"]
    assert (values["due"], values["owed"], values["refused"]) == (True, [], False)

    run = ended(state, project, FAILED, "stage train failed; its last lines:\n    no")
    said, values = told(state, project)
    assert said[1:] == [f"owed: run {run} failed on these inputs: stage train failed"]
    assert [(one["run"], one["state"]) for one in values["owed"]] == [(run, FAILED)]

    run = ended(state, project, REFUSED, "too bad")
    said, values = told(state, project)
    assert said == [f"settled: the gate refused these inputs in run {run}; a change starts the next"]
    assert (values["due"], values["refused"], values["owed"]) == (False, True, [])
    assert values["settled"]["run"] == run


def test_a_run_that_died_is_owed_before_anybody_buries_it(project: Path, state: Store) -> None:
    """Also one on inputs that are settled, as `run --force` begins it: nothing else says that it is due."""
    inputs = dvc.inputs(project)
    run = state.begin("by hand", {"force": True}, "", inputs)
    assert not plan.make(project, state, going_on=True).due
    said, values = told(state, project)
    assert said == [
        f"owed: run {run} was interrupted on these inputs: the process ended without a word (killed, or power lost)"
    ]
    assert (values["due"], values["owed"][0]["state"]) == (True, INTERRUPTED)


def test_what_a_killed_run_wrote_is_not_blamed_on_others(project: Path, state: Store) -> None:
    run = state.begin("by hand", {"force": True}, "", dvc.inputs(project))
    (project / "dvc.lock").write_text("stages: {train: {cmd: x}}\n")
    said = f"dvc.lock: stage train was run by run {run}, which was interrupted, or elsewhere"
    assert told(state, project)[0][0] == said
    assert [one.state for one in state.runs(1, going_on=False)] == [INTERRUPTED]
    state.bury_dead()
    assert told(state, project)[0][0] == said


def test_a_broken_lock_that_was_put_back_is_no_change(project: Path, state: Store) -> None:
    lock = project / "dvc.lock"
    lock.write_text("stages: {train: {cmd: x}}\n")
    ended(state, project, RELEASED)
    whole = lock.read_text()
    lock.write_text("<<<<<<< HEAD\n" + whole)
    ended(state, project, FAILED, "no")
    lock.write_text(whole)
    _, values = told(state, project)
    assert values["changes"] == []
    assert len(values["owed"]) == 1


def test_code_that_only_a_deep_look_finds_says_its_stages(project: Path, state: Store) -> None:
    script = project / "my.py"
    script.write_text("x = 1\n")
    edit(project / "dvc.yaml", "cmd: python -m plantops.ml.evaluate\n    deps:\n", "cmd: x\n    deps:\n      - my.py\n")
    (project / "dvc.lock").write_text("stages: {evaluate: {cmd: x, deps: [{path: my.py, md5: 0}]}}\n")
    ended(state, project, RELEASED)
    config = load(project)
    assert not plan.make(project, state).due
    todo = pipeline.due(config, state, get(config))
    assert "my.py: changed since stage evaluate ran" in todo.sentences()
    assert todo.stages == ["evaluate", "export_model"]
