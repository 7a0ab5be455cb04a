"""MLflow, for real: a SQLite database, `mlflow server` on loopback, ports where nobody listens."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from bundle_factory import SIZE, TinyModel, make_bundle, make_release
from mlflow_at import mlflow_at
from plantops import pipeline, views
from plantops.bundle import Bundle
from plantops.config import Config, MlflowConfig
from plantops.console import Console
from plantops.errors import SetupError, StepFailed
from plantops.store import Release, Store, now
from plantops.tracking import Away, Tail, Tracker, Training, reach
from plantops.tracking.record import safe_names

pytestmark = pytest.mark.ci

PARAMS = {"seed": 1, "model.backbone": "resnet10t", "model.pretrained": False}
METRICS = {"accuracy": 0.5, "recall.Pepper,_bell___healthy": 0.25}
EPOCHS = [(0.9, 1.1), (0.7, 0.8), (0.6, 0.75)]


def write_epochs(path: Path, count: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{n},{train},{val}\n" for n, (train, val) in enumerate(EPOCHS[:count]))
    path.write_text("epoch,train_loss,val_loss\n" + rows)


def make_training(root: Path, key: str = "a" * 32, **changes) -> Training:
    """A training with all its files in ``root``."""
    write_epochs(root / "plots/epochs.csv", len(EPOCHS))
    (root / "plots/confusion.png").write_bytes(b"a picture")
    (root / "metrics").mkdir(exist_ok=True)
    (root / "metrics/evaluation.json").write_text(json.dumps(METRICS))
    if not (root / "candidate").exists():
        make_bundle(root / "candidate")
    training = Training(
        key=key,
        name="run-1",
        origin="trained",
        params=PARAMS,
        epochs=root / "plots/epochs.csv",
        metrics=METRICS,
        artifacts=[root / "plots/confusion.png", root / "metrics/evaluation.json"],
        bundle=root / "candidate",
        dataset={"name": "leaves", "digest": "d" * 64, "source": "data/raw", "counts": {"healthy": 3, "rust": 2}},
        tags={"plantops.run": "run-1", "git.commit": "abc1234"},
    )
    return dataclasses.replace(training, **changes)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """MLflow needs seconds to make a database, so it is made once and copied."""
    root = tmp_path_factory.mktemp("database")
    assert Tracker(root, MlflowConfig()).aliases() == {}
    return root / "mlruns/mlflow.db"


@pytest.fixture
def project(tmp_path, empty_database) -> Path:
    root = tmp_path / "project"
    (root / "mlruns").mkdir(parents=True)
    shutil.copy(empty_database, root / "mlruns")
    return root


@pytest.fixture
def tracker(project) -> Tracker:
    return Tracker(project, MlflowConfig())


def client_of(tracker: Tracker):
    """A client of our own, so that tests read what others would."""
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracker.uri, tracker.uri)


def read(tracker: Tracker, run_id: str):
    return client_of(tracker).get_run(run_id)


def runs_of(tracker: Tracker, deleted: bool = False) -> list:
    from mlflow.entities import ViewType

    client = client_of(tracker)
    experiment = client.get_experiment_by_name(tracker.config.experiment)
    view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
    return client.search_runs([experiment.experiment_id], run_view_type=view)


def history(tracker: Tracker, run_id: str, metric: str) -> list[tuple[int, float]]:
    return sorted((one.step, one.value) for one in client_of(tracker).get_metric_history(run_id, metric))


def until(condition, seconds: float):
    """The first true value of ``condition``; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
    return value


def closed_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def assert_whole(tracker: Tracker, training: Training, run_id: str) -> None:
    """The run holds everything that ``training`` has, once."""
    run = read(tracker, run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {key: str(value) for key, value in training.params.items()}
    assert history(tracker, run_id, "train_loss") == [(n, train) for n, (train, _) in enumerate(EPOCHS)]
    assert history(tracker, run_id, "val_loss") == [(n, val) for n, (_, val) in enumerate(EPOCHS)]
    assert run.data.metrics["accuracy"] == training.metrics["accuracy"]
    assert run.data.metrics["recall.Pepper__bell___healthy"] == 0.25
    assert run.data.tags["plantops.train_key"] == training.key
    assert run.data.tags["mlflow.source.git.commit"] == "abc1234"
    assert "plantops.failure" not in run.data.tags
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("leaves", "d" * 36)
    assert json.loads(used.dataset.profile) == {"photos": 5, "classes": {"healthy": 3, "rust": 2}}
    assert_files(tracker, training, run_id)


def assert_files(tracker: Tracker, training: Training, run_id: str) -> None:
    client = client_of(tracker)
    folder = Path(client.download_artifacts(run_id, ""))
    for file in training.artifacts:
        assert (folder / file.parent.name / file.name).read_bytes() == file.read_bytes()
    assert Bundle.load(folder / "bundle").digest == Bundle.load(training.bundle).digest
    assert {path.name for path in (folder / "bundle").iterdir()} == {path.name for path in training.bundle.iterdir()}
    models = client.search_logged_models([client.get_run(run_id).info.experiment_id], f"source_run_id = '{run_id}'")
    assert [str(model.status) for model in models] == ["READY"]
    assert {metric.key for metric in models[0].metrics} == set(safe_names(training.metrics).values())


def answers(tracker: Tracker, model: str):
    """What the registered model answers to a batch of two, computed by ONNX Runtime."""
    import mlflow
    import onnxruntime

    with mlflow_at(tracker.uri):
        session = onnxruntime.InferenceSession(mlflow.onnx.load_model(model).SerializeToString())
    return session.run(None, {session.get_inputs()[0].name: PHOTOS})[0]


PHOTOS = np.random.default_rng(1).normal(size=(2, 3, SIZE, SIZE)).astype(np.float32)


def test_importing_the_room_imports_nothing_heavy():
    heavy = "{'mlflow', 'numpy', 'sqlalchemy', 'pandas', 'requests', 'PIL'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, plantops.tracking; sys.exit(str({heavy}) if {heavy} else 0)"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_training_becomes_one_finished_run_with_everything(tracker, project):
    training = make_training(project)
    run_id = tracker.begin("run-1", PARAMS, {"plantops.run": "run-1"})
    begun = read(tracker, run_id)
    assert (begun.info.status, begun.info.run_name) == ("RUNNING", "run-1")
    assert begun.data.params["model.backbone"] == "resnet10t"
    tracker.log_epochs(run_id, [{"epoch": "0", "train_loss": "0.9", "val_loss": "1.1"}])
    assert history(tracker, run_id, "val_loss") == [(0, 1.1)]
    assert tracker.record(training, run_id) == run_id
    assert_whole(tracker, training, run_id)
    assert len(runs_of(tracker, deleted=True)) == 1
    assert (project / "mlruns/artifacts" / run_id).is_dir()


def test_the_same_training_finds_its_run_again_and_doubles_nothing(tracker, project):
    training = make_training(project)
    run_id = tracker.record(training, None)
    before = read(tracker, run_id)
    again = dataclasses.replace(training, origin="cached", name="run-2", tags={"plantops.run": "run-2"})
    assert Tracker(project, MlflowConfig()).record(again, None) == run_id
    after = read(tracker, run_id)
    assert (after.data.tags, after.info.end_time) == (before.data.tags, before.info.end_time)
    assert len(after.outputs.model_outputs) == 1
    assert history(tracker, run_id, "accuracy") == [(0, 0.5)]
    assert_whole(tracker, training, run_id)
    assert len(runs_of(tracker, deleted=True)) == 1


def test_a_repeated_training_with_the_same_result_is_not_a_second_run(tracker, project):
    training = make_training(project)
    first = tracker.record(training, None)
    second = tracker.begin("run-2", PARAMS, {"plantops.run": "run-2"})
    assert tracker.record(training, second) == first
    assert [run.info.run_id for run in runs_of(tracker)] == [first]
    assert read(tracker, second).data.tags["plantops.same_as"] == first
    assert tracker.record(training, second) == first


def test_another_evaluation_and_bundle_of_the_same_training_are_added(tracker, project):
    training = make_training(project)
    run_id = tracker.record(training, None)
    first = tracker.register(run_id, "release-1")
    shutil.rmtree(project / "candidate")
    make_bundle(project / "candidate", TinyModel(temperature=2.5))
    changed = dataclasses.replace(training, metrics={"accuracy": 0.75})
    assert tracker.record(changed, None) == run_id
    assert read(tracker, run_id).data.metrics["accuracy"] == 0.75
    assert len(read(tracker, run_id).outputs.model_outputs) == 2
    assert tracker.register(run_id, "release-2") == first + 1
    assert len(runs_of(tracker)) == 1


def test_a_restored_training_says_so(tracker, project):
    run_id = tracker.record(make_training(project, origin="restored"), None)
    run = read(tracker, run_id)
    assert run.data.tags["plantops.origin"] == "restored"
    assert run.info.status == "FINISHED"
    assert len(history(tracker, run_id, "train_loss")) == len(EPOCHS)


class Killed(BaseException):
    """Stands for SIGKILL: no handler of ours catches it."""


class Dying:
    """An MLflow client whose process dies before its n-th call."""

    def __init__(self, client, calls: int) -> None:
        self._client, self._calls = client, calls

    def __getattr__(self, name):
        if self._calls == 0:
            raise Killed
        self._calls -= 1
        return getattr(self._client, name)


@pytest.mark.ci
def test_killed_at_any_call_a_repeated_record_ends_in_one_finished_run(tracker, project):
    training = make_training(project)
    for calls in range(100):
        one = dataclasses.replace(training, key=f"{calls:032d}")
        run_id = tracker.begin("run-1", PARAMS, {"plantops.run": "run-1"})
        dying = Tracker(project, MlflowConfig())
        dying._known_client = Dying(client_of(tracker), calls)
        try:
            dying.record(one, run_id)
            survived = True
        except Killed:
            survived = False
        tracker.close_dead([])
        done = tracker.record(one, None)
        assert_whole(tracker, one, done)
        keyed = [run for run in runs_of(tracker) if run.data.tags.get("plantops.train_key") == one.key]
        assert [run.info.status for run in keyed] == ["FINISHED"]
        assert not [run for run in runs_of(tracker) if run.info.status == "RUNNING"]
        assert len(read(tracker, done).outputs.model_outputs) == 1
        if survived:
            assert calls > 12
            return
    pytest.fail("record never came to its end")


def test_a_failed_training_is_failed_and_says_why_although_it_has_all_epochs(tracker):
    run_id = tracker.begin("run-1", PARAMS, {"plantops.run": "run-1"})
    tracker.log_epochs(run_id, [{"epoch": str(n), "train_loss": str(train)} for n, (train, _) in enumerate(EPOCHS)])
    tracker.fail(run_id, "stage train ended with status 1")
    run = read(tracker, run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["plantops.failure"] == "stage train ended with status 1"
    assert len(history(tracker, run_id, "train_loss")) == 3


def test_only_dead_runs_of_this_project_are_closed(tracker, tmp_path):
    neighbour = Tracker(tmp_path / "neighbour", MlflowConfig(tracking_uri=tracker.uri))
    neighbour.artifacts = tracker.artifacts  # two clones that share a database
    dead = tracker.begin("dead", {}, {"plantops.run": "dead"})
    alive = tracker.begin("alive", {}, {"plantops.run": "alive"})
    other = neighbour.begin("other", {}, {"plantops.run": "other"})
    assert tracker.close_dead(["alive"]) == [dead]
    assert [read(tracker, one).info.status for one in (dead, alive, other)] == ["FAILED", "RUNNING", "RUNNING"]
    assert "plantops run dead ended" in read(tracker, dead).data.tags["plantops.failure"]
    assert tracker.close_dead(["alive"]) == []


def test_a_parameter_that_changed_meanwhile_keeps_its_first_value(tracker, project):
    training = make_training(project)
    run_id = tracker.record(training, None)
    tracker.record(dataclasses.replace(training, params={**PARAMS, "seed": 2, "later": "x"}), None)
    assert read(tracker, run_id).data.params == {**{k: str(v) for k, v in PARAMS.items()}, "later": "x"}


def test_many_epochs_and_params_go_in_batches(tracker, project):
    rows = "".join(f"{n}," + ",".join(f"{n}.{k}" for k in range(6)) + "\n" for n in range(250))
    training = make_training(project, params={f"p{n}": n for n in range(230)})
    training.epochs.write_text("epoch," + ",".join(f"m{k}" for k in range(6)) + "\n" + rows)
    run_id = tracker.record(training, None)
    assert len(read(tracker, run_id).data.params) == 230
    assert len(history(tracker, run_id, "m5")) == 250


# The tail


@pytest.mark.ci
def test_each_epoch_arrives_within_two_seconds_and_the_old_file_is_ignored(tracker, project):
    path = project / "plots/epochs.csv"
    write_epochs(path, 3)
    os.utime(path, (time.time() - 60,) * 2)
    run_id = tracker.begin("run-1", {}, {})
    tail = Tail(tracker, run_id, path)
    tail.start()
    until(lambda: tail._since, 5)  # it has looked at the old file, or is about to
    path.unlink()
    with path.open("w") as file:
        file.write("epoch,train_loss,val_loss\n")
        for n, (train, val) in enumerate(EPOCHS):
            file.write(f"{n},{train},{val}\n")
            file.flush()
            until(lambda n=n: len(history(tracker, run_id, "val_loss")) == n + 1, 2)
        file.write("3,0.1,0.")  # half a line
        file.flush()
        tail.stop()
    assert history(tracker, run_id, "train_loss") == [(n, train) for n, (train, _) in enumerate(EPOCHS)]
    assert tail.problems == []
    assert not tail.is_alive()


def test_the_old_file_alone_logs_nothing_and_stopping_logs_what_is_left(tracker, project):
    path = project / "plots/epochs.csv"
    write_epochs(path, 3)
    os.utime(path, (time.time() - 60,) * 2)
    run_id = tracker.begin("run-1", {}, {})
    idle = Tail(tracker, run_id, path)
    idle.start()
    idle.stop()
    assert history(tracker, run_id, "val_loss") == []
    write_epochs(path, 2)
    late = Tail(tracker, run_id, path)
    late.start()
    late.stop()
    assert len(history(tracker, run_id, "val_loss")) == 2


@pytest.mark.parametrize("text", ["not,the,columns\n1,2,3\n", "epoch,loss\n0,many\n", "epoch,loss\n\xff\0,1\n"])
def test_a_strange_file_is_a_note_and_no_failure(tracker, project, text):
    path = project / "epochs.csv"
    run_id = tracker.begin("run-1", {}, {})
    path.write_bytes(text.encode("latin-1"))
    tail = Tail(tracker, run_id, path)
    tail.start()
    until(lambda: tail.problems, 5)
    tail.stop()
    assert len(tail.problems) == 1


def test_a_server_that_is_away_is_a_note_of_the_tail(project):
    away = Tracker(project, MlflowConfig(tracking_uri=f"http://127.0.0.1:{closed_port()}"))
    write_epochs(project / "epochs.csv", 1)
    tail = Tail(away, "1" * 32, project / "epochs.csv")
    tail.start()
    until(lambda: tail.problems, 10)
    tail.stop()
    assert "127.0.0.1" in tail.problems[0]


def test_a_reader_and_a_writer_do_not_disturb_each_other(tracker, project):
    run_id = tracker.begin("run-1", {}, {})
    ended, seen = threading.Event(), []

    def reading() -> None:
        with closing(sqlite3.connect(f"file:{project / 'mlruns/mlflow.db'}?mode=ro", uri=True)) as reader:
            while not ended.is_set():
                seen.append(reader.execute("SELECT COUNT(*) FROM metrics").fetchone()[0])

    readers = [threading.Thread(target=reading) for _ in range(2)]
    for one in readers:
        one.start()
    try:
        for n in range(30):
            tracker.log_epochs(run_id, [{"epoch": str(n), "train_loss": "0.5"}])
    finally:
        ended.set()
        for one in readers:
            one.join()
    assert len(history(tracker, run_id, "train_loss")) == 30
    assert len(set(seen)) > 2


# The registry


def test_one_version_for_each_bundle_and_it_answers_like_the_bundle(tracker, project):
    run_id = tracker.record(make_training(project), None)
    version = tracker.register(run_id, "abc-1")
    assert tracker.register(run_id, "abc-1") == version
    assert tracker.register(run_id, "other-name-of-the-same-bundle") == version
    expected = PHOTOS.reshape(2, -1) @ TinyModel().weights
    assert np.allclose(answers(tracker, f"models:/plant-disease/{version}"), expected, atol=1e-4)
    found = client_of(tracker).get_model_version("plant-disease", str(version))
    assert (found.run_id, found.tags["plantops.release"]) == (run_id, "abc-1")


def test_aliases_follow_and_a_stale_previous_goes(tracker, project):
    assert tracker.aliases() == {}
    first = tracker.register(tracker.record(make_training(project), None), "release-1")
    shutil.rmtree(project / "candidate")
    make_bundle(project / "candidate", TinyModel(seed=2))
    second = tracker.register(tracker.record(make_training(project, key="b" * 32), None), "release-2")
    assert tracker.promote(first, None)
    assert tracker.aliases() == {"champion": first}
    assert tracker.promote(second, first)
    assert tracker.aliases() == {"champion": second, "previous": first}
    assert tracker.promote(first, None)
    assert tracker.aliases() == {"champion": first}
    expected = PHOTOS.reshape(2, -1) @ TinyModel().weights
    assert np.allclose(answers(tracker, "models:/plant-disease@champion"), expected, atol=1e-4)


def test_a_run_without_a_model_is_not_registered(tracker):
    run_id = tracker.begin("run-1", {}, {})
    with pytest.raises(StepFailed, match="holds no model"):
        tracker.register(run_id, "release-1")
    assert tracker.aliases() == {}


# Away


@contextmanager
def silent_server():
    """Takes connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def assert_away_soon(tracker: Tracker) -> Away:
    start = time.monotonic()
    with pytest.raises(Away) as caught:
        tracker.ping()
    assert time.monotonic() - start < 5
    assert caught.value.hint
    return caught.value


@pytest.mark.ci
def test_a_server_that_is_away_or_silent_is_found_within_seconds(tmp_path):
    address = f"127.0.0.1:{closed_port()}"
    error = assert_away_soon(Tracker(tmp_path, MlflowConfig(tracking_uri=f"http://ann:secret@{address}")))
    assert address in error.message
    assert "refused" in error.message
    assert "secret" not in error.message
    with silent_server() as uri:
        assert "timed out" in assert_away_soon(Tracker(tmp_path, MlflowConfig(tracking_uri=uri))).message


def test_a_database_that_cannot_be_written_is_found(tmp_path):
    (tmp_path / "mlruns").write_text("a file in the way")
    assert str(tmp_path / "mlruns") in assert_away_soon(Tracker(tmp_path, MlflowConfig())).message
    (tmp_path / "mlruns").unlink()
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns/mlflow.db").write_text("this is no database, but a text that is long enough" * 100)
    assert "not a database" in assert_away_soon(Tracker(tmp_path, MlflowConfig())).message


@pytest.mark.ci
def test_a_locked_database_is_found_within_seconds(tracker, project):
    with closing(sqlite3.connect(project / "mlruns/mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "locked" in assert_away_soon(tracker).message
    tracker.ping()


def test_a_ping_that_is_well_needs_no_mlflow_and_leaves_no_lock(tmp_path):
    code = (
        "import sys; from pathlib import Path; from plantops.config import MlflowConfig;"
        "from plantops.tracking import Tracker; Tracker(Path(sys.argv[1]), MlflowConfig()).ping();"
        "sys.exit('mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0
    assert not list(tmp_path.iterdir())
    (tmp_path / "mlruns").mkdir()
    sqlite3.connect(tmp_path / "mlruns/mlflow.db").close()
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0
    with closing(sqlite3.connect(tmp_path / "mlruns/mlflow.db", timeout=0)) as database:
        database.execute("BEGIN EXCLUSIVE")


def test_a_required_server_that_is_away_stops_the_record(project):
    away = Tracker(project, MlflowConfig(tracking_uri=f"http://127.0.0.1:{closed_port()}"))
    with pytest.raises(Away):
        away.record(make_training(project), None)
    assert not (project / ".plantops").exists()


def test_a_folder_as_tracking_uri_is_refused(tmp_path):
    for uri in ("mlruns", "file:///somewhere/mlruns"):
        with pytest.raises(SetupError, match="is a folder") as caught:
            Tracker(tmp_path, MlflowConfig(tracking_uri=uri))
        assert "sqlite:///" in caught.value.hint


def test_a_project_that_was_copied_does_not_write_into_the_old_one(tracker, project, tmp_path):
    tracker.begin("run-1", {}, {})
    copy = shutil.copytree(project, tmp_path / "copy")
    moved = Tracker(copy, MlflowConfig())
    for verb in (moved.ping, lambda: moved.begin("run-2", {}, {})):
        with pytest.raises(SetupError, match="moved or copied") as caught:
            verb()
        assert "mlflow.experiment" in caught.value.hint
    Tracker(copy, MlflowConfig(experiment="another")).ping()


def test_a_deleted_experiment_is_named_with_its_remedy(tracker, project):
    tracker.begin("run-1", {}, {})
    client = client_of(tracker)
    client.delete_experiment(client.get_experiment_by_name("plant-disease").experiment_id)
    with pytest.raises(SetupError, match="was deleted") as caught:
        Tracker(project, MlflowConfig()).begin("run-2", {}, {})
    assert "mlflow experiments restore" in caught.value.hint


# The spool


@pytest.fixture
def optional(project) -> Tracker:
    return Tracker(project, MlflowConfig(required=False))


@contextmanager
def blocked(project: Path):
    """MLflow's folder is away for a while."""
    (project / "mlruns").rename(project / "hidden")
    (project / "mlruns").write_text("in the way")
    try:
        yield
    finally:
        (project / "mlruns").unlink()
        (project / "hidden").rename(project / "mlruns")


def test_what_waits_is_logged_and_registered_later(optional, project, tmp_path):
    training = make_training(project)
    digest = Bundle.load(training.bundle).digest
    run_id = optional.begin("run-1", PARAMS, {"plantops.run": "run-1"})
    with blocked(project):
        assert optional.record(training, run_id) is None
        assert optional.record(training, run_id) is None
        assert optional.register(None, "release-1", digest) is None
        assert optional.promote(1, None) is False
        with pytest.raises(Away):
            list(optional.replay())
    kept = make_training(tmp_path / "kept")
    for name in ("plots", "metrics", "candidate"):
        shutil.rmtree(project / name)
    later = Tracker(project, MlflowConfig(required=False))
    trained, released = later.replay()
    assert (trained.run_id, trained.key, trained.digest) == (run_id, training.key, digest)
    assert (released.run_id, released.release, released.version) == (run_id, "release-1", 1)
    assert_whole(later, kept, run_id)
    assert later.aliases() == {}, "what is in service now says the store, not the spool"
    assert list(later.replay()) == []
    assert [path for path in (project / ".plantops/spool").rglob("*") if path.is_file()] == []
    assert len(runs_of(later, deleted=True)) == 1


def test_a_release_whose_training_is_logged_is_registered_later(optional, project):
    run_id = optional.record(make_training(project), None)
    with blocked(project):
        assert optional.register(run_id, "release-1") is None
    (released,) = optional.replay()
    assert (released.run_id, released.version) == (run_id, 1)


VERDICT = {
    "outcome": "refused",
    "against": "release-0",
    "accepted_anyway": {"user": "ana", "reason": "a trial", "at": "now"},
    "findings": [{"rule": "accuracy", "state": "failed", "sentence": "accuracy is below"}],
}


def assert_judged(tracker, run_id):
    client = client_of(tracker)
    tags = client.get_run(run_id).data.tags
    assert (tags["plantops.gate"], tags["plantops.gate.against"]) == ("refused", "release-0")
    assert (tags["plantops.gate.reasons"], tags["plantops.gate.anyway"]) == ("accuracy is below", "ana: a trial")
    assert json.loads(Path(client.download_artifacts(run_id, "gate/verdict.json")).read_text()) == VERDICT


def test_a_verdict_is_an_artifact_and_short_tags(tracker, project):
    run_id = tracker.record(make_training(project), None)
    tracker.judged(run_id, "d" * 64, {**VERDICT, "outcome": "accepted", "accepted_anyway": None, "findings": []})
    assert client_of(tracker).get_run(run_id).data.tags["plantops.gate"] == "accepted"
    tracker.judged(run_id, "d" * 64, VERDICT)
    assert_judged(tracker, run_id)


def test_a_verdict_waits_with_its_training(optional, project):
    training = make_training(project)
    digest = Bundle.load(training.bundle).digest
    with blocked(project):
        optional.record(training, None)
        optional.judged(None, digest, VERDICT)
    trained, told = optional.replay()
    assert (trained.run_id, told.digest, told.problem) == (told.run_id, digest, "")
    assert_judged(optional, told.run_id)
    assert list(optional.replay()) == []


def test_aliases_set_meanwhile_are_not_undone_by_the_spool(optional, project):
    version = optional.register(optional.record(make_training(project), None), "release-1")
    with blocked(project):
        assert optional.promote(version, version) is False
    assert optional.promote(version, None) is True
    assert list(optional.replay()) == []
    assert optional.aliases() == {"champion": version}


def test_a_replay_that_was_killed_is_repeated(optional, project):
    training = make_training(project)
    with blocked(project):
        optional.record(training, None)
    dying = Tracker(project, MlflowConfig(required=False))
    for calls in (4, 12):
        dying._known_client = Dying(client_of(optional), calls)
        with pytest.raises(Killed):
            list(dying.replay())
    (again,) = optional.replay()
    assert_whole(optional, training, again.run_id)
    assert len(runs_of(optional)) == 1


def test_half_a_spooled_training_is_not_replayed(optional, project):
    training = make_training(project)
    broken = dataclasses.replace(training, artifacts=[*training.artifacts, project / "plots/gone.png"])
    with blocked(project), pytest.raises(FileNotFoundError):
        optional.record(broken, None)
    assert list(optional.replay()) == []


def test_a_spooled_training_is_kept_and_dropped_whole_or_not_at_all(optional, project):
    training = make_training(project)
    with blocked(project):
        optional.record(training, None)
    die = (
        "import os, shutil, signal, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]);"
        "from test_tracking import make_training; from plantops.tracking.spool import Spool\n"
        "def strike(folder, ignore_errors=False):\n"
        "    if folder.exists(): (folder / 'training.json').unlink(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "shutil.rmtree = strike\n"
        "root = Path(sys.argv[1]); Spool(root / '.plantops/spool').drop(make_training(root))"
    )
    argv = [sys.executable, "-c", die, str(project), str(Path(__file__).parent)]
    assert subprocess.run(argv, check=False).returncode == -9
    half = project / ".plantops/spool/trainings" / ("b" * 32)  # as an earlier plantops left it
    half.mkdir()
    (half / "epochs.csv").write_text("epoch\n")
    assert list(optional.replay()) == []
    assert list((project / ".plantops/spool/trainings").iterdir()) == []


def test_a_version_that_the_caller_could_not_keep_is_told_again(optional, project):
    run_id = optional.record(make_training(project), None)
    with blocked(project):
        assert optional.register(run_id, "release-1") is None
    for _ in range(2):
        for one in optional.replay():
            assert (one.release, one.version) == ("release-1", 1)
            break  # it dies before it has
    (told,) = optional.replay()
    assert told.version == 1
    assert list(optional.replay()) == []


def test_the_store_learns_the_version_of_each_wish_before_the_next_one(optional, project):
    run_id = optional.record(make_training(project), None)
    with blocked(project):
        assert optional.register(run_id, "release-1") is None
        assert optional.register(None, "release-2", "no-such-digest") is None
    with Store(project / ".plantops") as store:
        for name in ("release-1", "release-2"):
            store.add_release(Release(name, now(), None, name, True, run_id, None, None))
        pipeline._catch_up(store, optional, Console())
        assert [one.version for one in store.releases()] == [None, 1]


def test_a_wish_that_fails_holds_up_none_behind_it(optional, project):
    run_id = optional.record(make_training(project), None)
    with blocked(project):
        assert optional.register(None, "release-0", "no-such-digest") is None
        assert optional.register(run_id, "release-1") is None
        assert optional.register("0" * 32, "release-2") is None
    failed, released, gone = optional.replay()
    assert "release-0 is not in MLflow yet: no MLflow run holds the model" in failed.problem
    assert (released.release, released.version, released.problem) == ("release-1", 1, "")
    assert "release-2 is not in MLflow yet" in gone.problem
    assert [bool(one.problem) for one in optional.replay()] == [True, True]


# Names and pages


def test_names_become_ones_that_mlflow_takes_and_stay_apart():
    names = safe_names(["val_loss", "recall.Corn_(maize)___Common_rust_", "a,b", "a;b", "/x/"])
    assert list(names.values()) == ["val_loss", "recall.Corn__maize____Common_rust_", "a_b", "a_b_2", "x"]


def test_a_server_has_its_own_pages(project):
    assert Tracker(project, MlflowConfig(tracking_uri="http://127.0.0.1:1")).ui_argv(5000) is None


def test_the_pages_listen_on_loopback_with_one_worker(tracker):
    argv = tracker.ui_argv(5001)
    assert argv is not None
    assert " ".join(argv[-6:]) == "--host 127.0.0.1 --port 5001 --workers 1"


@contextmanager
def serving(argv: list[str], log: Path, env: dict[str, str] = reach.ENVIRONMENT):
    """A program that serves; stopped with all it started."""
    with log.open("wb") as out:
        child = subprocess.Popen(
            argv, cwd=log.parent, stdout=out, stderr=out, start_new_session=True,
            env={**os.environ, **env},
        )  # fmt: skip
    try:
        port = int(argv[argv.index("--port") + 1])

        def healthy() -> bool:
            assert child.poll() is None, log.read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    return True
            except OSError:
                return False

        until(healthy, 90)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(child.pid, 15)
        child.wait(20)


@pytest.fixture(scope="session")
def server(tmp_path_factory, empty_database):
    """`mlflow server` with a database and artifacts of its own."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_database, folder)
    argv = [
        sys.executable, "-m", "mlflow", "server",
        "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination", str(folder / "artifacts"),
        "--host", "127.0.0.1", "--port", str(closed_port()), "--workers", "1",
    ]  # fmt: skip
    with serving(argv, folder / "log") as uri:
        yield uri


@pytest.mark.ci
def test_everything_goes_through_a_real_server(server, tmp_path):
    tracker = Tracker(tmp_path, MlflowConfig(tracking_uri=server))
    tracker.ping()
    training = make_training(tmp_path)
    run_id = tracker.begin("run-1", PARAMS, {"plantops.run": "run-1"})
    tail = Tail(tracker, run_id, training.epochs)
    write_epochs(training.epochs, 2)
    tail.start()
    until(lambda: len(history(tracker, run_id, "val_loss")) == 2, 3)
    tail.stop()
    write_epochs(training.epochs, 3)
    assert tracker.record(training, run_id) == run_id
    assert tracker.record(training, None) == run_id
    assert_whole(tracker, training, run_id)
    version = tracker.register(run_id, "release-1")
    assert tracker.register(run_id, "release-1") == version
    assert tracker.promote(version, None)
    expected = PHOTOS.reshape(2, -1) @ TinyModel().weights
    assert np.allclose(answers(tracker, f"models:/plant-disease/{version}"), expected, atol=1e-4)
    assert not (tmp_path / "mlruns").exists()
    failed = tracker.begin("run-2", {}, {"plantops.run": "run-2"})
    assert tracker.close_dead([]) == [failed]


@pytest.mark.ci
def test_the_password_of_a_server_is_kept_nowhere(server, project):
    config = MlflowConfig(tracking_uri=server.replace("://", "://bob:s3cret@"), experiment="another")
    tracker = Tracker(project, config)
    version = tracker.register(tracker.record(make_training(project, key="c" * 32), None), "abc1234-1")
    shelved = make_release(project / "models/releases/abc1234-1")
    with Store(project / ".plantops") as store:
        store.add_release(Release(shelved.name, now(), None, "digest", True, None, version, None))
        store.put_in_service(shelved.name, "code", "a test")
        assert views.show(Config(project, project / "config.yaml", mlflow=config), store, tracker) == []
        assert "champion" in store.shown("aliases")
    assert not [one for one in project.rglob("*") if one.is_file() and b"s3cret" in one.read_bytes()]


@pytest.mark.ci
def test_the_pages_open_what_the_tracker_wrote_while_it_writes_on(tracker, project):
    training = make_training(project)
    run_id = tracker.record(training, None)
    argv = tracker.ui_argv(closed_port())
    assert argv is not None
    with serving(argv, project / "ui.log", tracker.ui_environment()) as uri:
        with urllib.request.urlopen(f"{uri}/get-artifact?path=plots/confusion.png&run_uuid={run_id}") as answer:
            assert answer.read() == b"a picture"
        with urllib.request.urlopen(f"{uri}/api/2.0/mlflow/runs/get?run_id={run_id}") as answer:
            assert json.load(answer)["run"]["info"]["status"] == "FINISHED"
        other = tracker.record(make_training(project, key="b" * 32), None)
        with urllib.request.urlopen(f"{uri}/api/2.0/mlflow/runs/get?run_id={other}") as answer:
            assert json.load(answer)["run"]["info"]["status"] == "FINISHED"
        strange = urllib.request.Request(f"{uri}/api/2.0/mlflow/runs/get?run_id={run_id}", headers={"Host": "evil"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(strange)
        # Where MLflow is may hold a password, and everybody may read the command of a process.
        commands = [one.read_bytes() for one in Path("/proc").glob("[0-9]*/cmdline")]
        assert [one for one in commands if uri.rpartition(":")[2].encode() in one]
        assert not [one for one in commands if bytes(project / "mlruns/mlflow.db") in one]


@pytest.mark.ci
def test_mlflow_is_quiet_even_when_it_makes_its_database(tmp_path):
    make_training(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path; root = Path(sys.argv[1]);"
        "from test_tracking import *; tracker = Tracker(root, MlflowConfig());"
        "run = tracker.begin('run-1', PARAMS, {}); run = tracker.record(make_training(root), run);"
        "tracker.promote(tracker.register(run, 'release-1'), None)"
    )
    argv = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "mlflow.db").exists()
