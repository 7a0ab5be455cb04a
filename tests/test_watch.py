"""The parts of watch by themselves: when to run, what wakes it, what it tells of itself. Real events, real files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from plantops import store
from plantops.config import Config, load
from plantops.store import Release, Store
from plantops.watch import heartbeat, metrics
from plantops.watch.events import Events
from plantops.watch.patience import LONGEST_PAUSE_S, Rules, Try, decide, pause
from plantops.watch.places import Moved, of
from plantops.watch.signals import Calls

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULES = Rules(interval_s=30, max_retries=3, max_runs_per_hour=4)
RAW = "data/raw/PlantVillage"


def failed(*seconds_ago: float) -> list[Try]:
    return [Try(NOW - timedelta(seconds=one), interrupted=False) for one in seconds_ago]


def begun(*seconds_ago: float) -> list[datetime]:
    return [NOW - timedelta(seconds=one) for one in seconds_ago]


def test_what_is_new_runs_at_once() -> None:
    assert decide([], [], RULES, NOW).go


def test_pauses_grow_with_the_failures_and_end_at_the_last_try() -> None:
    assert [pause(n, 30).total_seconds() for n in (1, 2, 3, 20)] == [60, 120, 240, LONGEST_PAUSE_S]
    for count, wait in ((1, 60), (2, 120), (3, 240)):
        earlier = [9999.0] * (count - 1)
        assert decide(failed(wait - 1, *earlier), [], RULES, NOW).until == NOW + timedelta(seconds=1)
        assert decide(failed(wait, *earlier), [], RULES, NOW).go
    given_up = decide(failed(99999, 99999, 99999, 99999), [], RULES, NOW)
    assert "4 times" in given_up.why
    assert given_up.until is None


def test_what_was_interrupted_is_taken_up_without_a_pause_but_counts() -> None:
    cut = Try(NOW, interrupted=True)
    assert decide([cut], [], RULES, NOW).go
    assert decide([cut] * 4, [], RULES, NOW).until is None
    assert not decide([cut] * 4, [], RULES, NOW).go


def test_the_breaker_opens_for_the_rest_of_the_hour() -> None:
    assert decide([], begun(10, 20, 30, 3600), RULES, NOW).go
    turn = decide([], begun(10, 20, 30, 3000), RULES, NOW)
    assert "4 runs within an hour" in turn.why
    assert turn.until == NOW + timedelta(seconds=600)
    assert not decide([], [], Rules(30, 3, 0), NOW).go


def test_clock_set_back_neither_jams_nor_floods() -> None:
    tomorrow = -86400
    assert decide(failed(tomorrow), begun(*[tomorrow] * 9), RULES, NOW).go
    assert not decide(failed(*[tomorrow] * 4), [], RULES, NOW).go


ages = st.lists(st.floats(-1e6, 1e6), max_size=12)


@given(ages, ages, st.booleans())
def test_it_always_goes_on_by_itself_unless_it_gave_up(tries: list[float], runs: list[float], cut: bool) -> None:
    attempts = [Try(one.ended, cut) for one in failed(*tries)]
    turn = decide(attempts, begun(*runs), RULES, NOW)
    if turn.go:
        assert len(tries) <= RULES.max_retries
        assert sum(0 <= age < 3600 for age in runs) < RULES.max_runs_per_hour
    elif turn.until is None:
        assert len(tries) > RULES.max_retries
    else:
        assert NOW < turn.until <= NOW + timedelta(hours=1)


# What wakes it. No git, no DVC: only files that move.


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A project's files: one class under DVC, one params file beside params.yaml, one nested folder."""
    root = tmp_path / "a project"
    (root / RAW / "Known").mkdir(parents=True)
    (root / RAW / "Known.dvc").write_text("outs:\n- path: Known\n")
    (root / "extra/deep").mkdir(parents=True)
    (root / "conf").mkdir()
    (root / "conf/more.toml").write_text("a = 1\n")
    (root / ".plantops").mkdir()
    (root / "config.yaml").write_text("watch:\n  settle_seconds: 0.3\n")
    (root / "params.yaml").write_text(f"prepare:\n  raw: {RAW}\n")
    (root / "dvc.yaml").write_text("stages:\n  a:\n    cmd: x\n    params:\n    - conf/more.toml:\n")
    (root / "dvc.lock").write_text("schema: '2.0'\n")
    return root


@pytest.fixture
def ears(place: Path) -> Iterator[Callable[..., Moved]]:
    """``ears(act)``: what is heard of what ``act`` does, with half a second to hear that it was nothing."""
    events = Events(Calls(), print)

    def hear(act: Callable[[], object], **data: str) -> Moved:
        config = settings(place, **data)
        events.arm(config, anew=True)
        assert not events.deaf
        act()
        return events.wait(0.5)

    yield hear
    events.close()


def settings(place: Path, **data: str) -> Config:
    if data:
        (place / "config.yaml").write_text(json.dumps({"data": data, "watch": {"settle_seconds": 0.3}}))
    return load(place)


@pytest.mark.parametrize(
    "file",
    ["config.yaml", "dvc.yaml", "dvc.lock", "params.yaml", "conf/more.toml", f"{RAW}/Known.dvc",
     f"{RAW}/NewClass.dvc", "extra/deep/new.dvc"],
)  # fmt: skip
@pytest.mark.parametrize("way", ["written", "renamed into place", "removed"])
def test_every_input_wakes_it(place: Path, ears: Callable[..., Moved], file: str, way: str) -> None:
    fresh = place / ".plantops/fresh"
    fresh.write_text("x: 1\n")
    if way == "removed":
        (place / file).touch()
    acts = {
        "written": lambda: (place / file).write_text("x: 1\n"),
        "renamed into place": lambda: fresh.replace(place / file),
        "removed": lambda: (place / file).unlink(),
    }
    assert ears(acts[way]).inputs


def test_what_is_no_input_does_not(place: Path, ears: Callable[..., Moved]) -> None:
    (place / "mlruns").mkdir()
    quiet = [".plantops/watch.json", ".plantops/state.db-wal", "mlruns/mlflow.db", ".params.yaml.swp", "notes.txt",
             f"{RAW}/Known/new.jpg", f"{RAW}/.gitignore", "data/raw/readme.md", "extra/deep/notes.py"]  # fmt: skip

    def act() -> None:
        for one in quiet:
            (place / one).write_text("x")

    assert ears(act) == Moved()


def test_a_folder_made_later_is_watched_from_then_on(place: Path, ears: Callable[..., Moved]) -> None:
    assert ears(lambda: os.makedirs(place / "extra/later/on")).folders
    assert ears(lambda: (place / "extra/later/on/new.dvc").write_text("x")).inputs
    assert ears(lambda: shutil.rmtree(place / "extra/later")).folders


def test_linked_files_wake_it_where_they_really_lie(place: Path, ears: Callable[..., Moved], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    shutil.move(place / "params.yaml", tmp_path / "elsewhere/params.yaml")
    (place / "params.yaml").symlink_to(tmp_path / "elsewhere/params.yaml")
    assert ears(lambda: (tmp_path / "elsewhere/params.yaml").write_text(f"prepare: {{raw: {RAW}}}\n")).inputs


def test_photos_wake_it_where_they_are_added(place: Path, ears: Callable[..., Moved], tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (place / RAW / "Linked").symlink_to(tmp_path / "disk")
    (place / RAW / "Linked.dvc").write_text("outs:\n- path: Linked\n")
    for file in (f"{RAW}/Known/new.jpg", f"{RAW}/Linked/new.jpg"):
        assert ears(lambda file=file: (place / file).write_text("x"), untracked="add").photos
    assert ears(lambda: (tmp_path / "disk/direct.jpg").write_text("x"), untracked="add").photos
    assert ears(lambda: os.makedirs(place / RAW / "New/inner"), untracked="add").photos
    assert ears(lambda: (place / RAW / "New/inner/1.jpg").write_text("x"), untracked="add").photos


def test_covered_folders_are_not_watched_and_a_new_class_is_noticed(place: Path, ears: Callable[..., Moved]) -> None:
    assert str(place / RAW / "Known") not in of(settings(place)).folders
    assert ears(lambda: (place / RAW / "New").mkdir()).photos
    assert ears(lambda: (place / RAW / "New/1.jpg").write_text("x")).photos


@pytest.mark.ci
def test_a_burst_is_waited_out_and_not_for_ever(place: Path) -> None:
    (place / "config.yaml").write_text("watch: {settle_seconds: 0.4, max_wait_seconds: 1.5}")
    config, events = load(place), Events(Calls(), print)
    events.arm(config)
    writes = "import time\nfor n in range({}): open('params.yaml', 'w').write(f'x: {{n}}'); time.sleep(0.1)"
    try:
        for count, least, most in ((8, 1.0, 1.5), (60, 1.4, 2.2)):
            with subprocess.Popen([sys.executable, "-c", writes.format(count)], cwd=place) as writer:
                assert events.wait(10)
                began = datetime.now(UTC)
                events.settle(config)
                took = (datetime.now(UTC) - began).total_seconds()
                assert (writer.poll() is not None) == (count == 8)
                writer.terminate()
            assert least <= took <= most
    finally:
        events.close()


def test_a_signal_ends_the_waiting(place: Path) -> None:
    calls = Calls()
    events = Events(calls, print)
    events.arm(load(place))
    calls.hang_up(0, None)
    assert events.wait(60) == Moved()
    assert calls.read_again()
    assert not calls.read_again()
    events.close()


# What it tells of itself.


def beat(**values: object) -> heartbeat.Beat:
    from dataclasses import replace

    return replace(heartbeat.first(30), **values)  # type: ignore[arg-type]


def test_status_tells_alive_from_late_from_dead_from_stopped(tmp_path: Path) -> None:
    now = datetime.now(UTC)

    def said(**values: object) -> str:
        heartbeat.write(tmp_path, beat(**values))
        return heartbeat.said(tmp_path, now)

    ago = {one: (now - timedelta(seconds=one)).isoformat() for one in (-500, 12, 149, 151, 7300)}
    assert heartbeat.said(tmp_path) == "never started"
    assert said(checked=ago[12]) == "alive, looked 12 s ago"
    assert said(checked=ago[-500]) == "alive, looked 0 s ago", "the clock was set back"
    assert said(checked=ago[149]).startswith("alive")
    assert "not answering since" in said(checked=ago[151])
    assert said(checked=ago[7300], state=heartbeat.RUNNING) == "alive, in a run since 2 h"
    assert said(checked=ago[12], why="no").endswith("waits: no")
    assert said(checked=ago[12], state=heartbeat.STOPPED) == "stopped 12 s ago"
    assert said(checked=ago[12], started="another process of this pid") == "not running: it died, looked 12 s ago"
    assert said(checked=ago[12], state=heartbeat.ONCE) == "not going; --once looked 12 s ago"
    (tmp_path / heartbeat.FILE).write_text("{half")
    assert heartbeat.said(tmp_path) == "never started"


def test_metrics_are_in_the_text_format(tmp_path: Path) -> None:
    config = Config(tmp_path, tmp_path / "config.yaml")
    with Store(tmp_path) as state:
        metrics.write(tmp_path, beat(), metrics.Facts.of(state, config))
        bare = parsed(tmp_path)
        run = state.begin('a "trigger"\\\n', {}, "f", {})
        state.finish(run, store.RELEASED)
        for name, ending in (("gate", store.REFUSED), ("reproduce", store.FAILED), ("reproduce", store.FAILED)):
            again = state.begin("watch", {}, "f", {})
            state.step_begins(again, name)
            state.finish(again, ending)
        state.step_ends(run, state.step_begins(run, "gate"), "done", "")
        state.add_release(Release("one", store.now(), run, "digest", False, None, 1, None))
        state.put_in_service("one", "code", "run")
        manifest = config.models / "releases/one/manifest.json"
        manifest.parent.mkdir(parents=True)
        manifest.write_text('{"metrics": {"accuracy": 0.9, "recall": {"Rust": 1.0}}}')
        metrics.write(tmp_path, beat(why="because"), metrics.Facts.of(state, config))
    full = parsed(tmp_path)
    assert "plantops_release_info" not in bare
    assert bare["plantops_watch_last_check_timestamp_seconds"][()] == pytest.approx(datetime.now().timestamp(), abs=60)
    ended = {one: count for ((_, one),), count in full["plantops_runs_total"].items()}
    assert ended == {"failed": 2, "refused": 1, "released": 1}
    assert full["plantops_gate_verdicts_total"] == {(("verdict", "accepted"),): 1, (("verdict", "refused"),): 1}
    assert (full["plantops_failed_runs_in_a_row"][()], full["plantops_refused_runs_in_a_row"][()]) == (2, 0)
    assert list(full["plantops_last_run_step_seconds"]) == [(("step", "reproduce"),)]
    assert full["plantops_release_score"] == {(("score", "accuracy"),): 0.9}
    assert full["plantops_disk_wanted_bytes"][()] == 1e9 * config.disk.min_free_gb
    assert full["plantops_disk_free_bytes"][()] > 0
    assert "plantops_release_score" not in bare
    assert full["plantops_release_info"] == {(("release", "one"),): 1}
    assert full["plantops_watch_waiting"][()] == 1
    assert full["plantops_watch_last_run_timestamp_seconds"][()] == pytest.approx(datetime.now().timestamp(), abs=60)
    if shutil.which("promtool"):
        with (tmp_path / metrics.FILE).open() as text:
            done = subprocess.run(["promtool", "check", "metrics"], stdin=text, capture_output=True, text=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def parsed(folder: Path) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """{name: {labels: value}} of the metrics in ``folder``; none of them is without help and type."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families((folder / metrics.FILE).read_text()):
        assert family.documentation
        assert family.type in ("gauge", "counter")
        for one in family.samples:
            found.setdefault(one.name, {})[tuple(sorted(one.labels.items()))] = one.value
    return found
