"""The state database: what is settled, what is owed, what is in service; and the locks."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_client import until
from plantops import lock, store
from plantops.errors import Busy, SetupError
from plantops.store import Damaged, Release, Store
from plantops.store.database import MIGRATIONS


def release(name: str, digest: str = "") -> Release:
    return Release(name, store.now(), None, digest or f"digest-of-{name}", False, None, None, None)


@pytest.fixture
def state(tmp_path: Path):
    with Store(tmp_path) as one:
        yield one


def test_a_failed_run_settles_nothing_and_is_owed(state: Store) -> None:
    first = state.begin("by hand", {}, "f1", {"a": 1})
    state.finish(first, store.RELEASED, {"a": 1})
    second = state.begin("watch", {}, "f2", {"a": 2})
    state.step_begins(second, "reproduce")
    state.finish(second, store.FAILED, {"a": 2}, error="no room")
    settled = state.last_settled()
    assert settled
    assert settled.id == first
    assert [one.id for one in state.unfinished(going_on=False)] == [second]
    assert [(one.name, one.state) for one in state.steps(second)] == [("reproduce", store.FAILED)]
    third = state.begin("watch", {}, "f2", {"a": 2})
    state.finish(third, store.REFUSED, {"a": 2})
    assert state.unfinished(going_on=False) == []


def test_a_run_without_dvc_settles_nothing(state: Store) -> None:
    state.finish(state.begin("by hand", {"skip_dvc": True}, "f", {}), store.RELEASED, None)
    assert state.last_settled() is None


def test_dead_runs_are_interrupted(state: Store) -> None:
    run = state.begin("watch", {}, "f", {"a": 1})
    position = state.step_begins(run, "switch")
    assert [(one.id, one.state) for one in state.unfinished(going_on=False)] == [(run, store.INTERRUPTED)]
    assert state.unfinished(going_on=True) == []
    assert [one.id for one in state.bury_dead()] == [run]
    assert state.bury_dead() == []
    assert state.steps(run)[position].state == store.INTERRUPTED


def test_a_run_by_its_name_is_as_the_list_has_it(state: Store) -> None:
    run = state.begin("watch", {}, "f", {"a": 1})
    assert [state.run(run[:-1], going_on=one).state for one in (True, False)] == [store.RUNNING, store.INTERRUPTED]


def test_service_and_previous(state: Store) -> None:
    for name in "abc":
        state.add_release(release(name))
        state.put_in_service(name, "code", "run")
    assert (state.in_service().id, state.previous().id) == ("c", "b")
    state.put_in_service("b", "code", "rollback", withdraw="c")
    assert (state.in_service().id, state.previous().id) == ("b", "a")
    assert state.release("c").withdrawn
    state.put_in_service("c", "code", "by name")
    assert not state.release("c").withdrawn
    assert state.previous().id == "b"


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=12))
@settings(max_examples=60, deadline=None)
def test_previous_is_never_the_current_nor_withdrawn(moves: list[tuple[str, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder)) as state:
        for name, withdraw in moves:
            state.add_release(release(name))
            current = state.in_service()
            left = current.id if withdraw and current and current.id != name else None
            state.put_in_service(name, "code", "move", withdraw=left)
            assert state.in_service().id == name
            previous = state.previous()
            assert previous is None or (previous.id != name and not previous.withdrawn)


def test_a_release_is_found_by_an_unambiguous_beginning(state: Store) -> None:
    for name in ("1111111-aaaa", "1111111-bbbb"):
        state.add_release(release(name))
    assert state.release("1111111-a").id == "1111111-aaaa"
    assert state.release("digest-of-1111111-b").id == "1111111-bbbb"
    assert state.release("1111111") is None
    assert state.release("") is None


def test_photos_keep_names_that_are_no_text(state: Store) -> None:
    odd = os.fsdecode(b"a\xff\nb.jpg")
    state.remember_folder(odd, "s", "f", [(odd, (1, 2, 3), "m"), ("b", (1, 2, 3), "n")])
    state.remember_folder(odd, "t", "g", [(odd, (1, 2, 4), "m")])
    assert state.folders() == {odd: ("t", "g")}
    assert state.photos(odd) == {odd: ((1, 2, 4), "m")}
    state.forget_folders([odd])
    assert (state.folders(), state.photos(odd)) == ({}, {})


def test_a_newer_database_is_refused_unchanged_and_a_broken_one_named(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    with Store(tmp_path):
        pass
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA user_version = 99")
    before = file.read_bytes()
    for readonly in (False, True):
        with pytest.raises(
            SetupError, match=rf"newer plantops \(schema 99, this one knows {len(MIGRATIONS)}\)"
        ) as refused:
            Store(tmp_path, readonly)
        assert refused.value.hint == "upgrade plantops"
    assert file.read_bytes() == before
    for one in tmp_path.iterdir():
        one.unlink()
    file.write_text("no database at all, but long enough to be taken for one" * 9)
    with pytest.raises(Damaged, match="cannot be used"):
        Store(tmp_path)


def migrating(folder: Path, script: str) -> list[str]:
    """The command of a program that knows one migration more."""
    more = (
        "import sys; from pathlib import Path; from plantops.store import Store, database;"
        "database.MIGRATIONS.append(sys.argv[2]); print('begins', flush=True); Store(Path(sys.argv[1])).close()"
    )
    return [sys.executable, "-c", more, str(folder), script]


def schema(folder: Path) -> tuple[int, set[str]]:
    """The version of the database, and its tables."""
    with closing(sqlite3.connect(folder / "state.db")) as db:
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return db.execute("PRAGMA user_version").fetchone()[0], tables


def test_a_migration_that_fails_leaves_the_old_schema(tmp_path: Path) -> None:
    with Store(tmp_path) as state:
        state.add_release(release("a"))
    before = schema(tmp_path)
    failed = subprocess.run(
        migrating(tmp_path, "CREATE TABLE extra (a); ALTER TABLE release ADD COLUMN more; INSERT INTO none VALUES (1)"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "no such table: none" in failed.stderr
    assert schema(tmp_path) == before
    with Store(tmp_path) as state:
        assert [one.id for one in state.releases()] == ["a"]


def test_a_migration_that_is_killed_leaves_the_old_schema(tmp_path: Path) -> None:
    with Store(tmp_path):
        pass
    before = schema(tmp_path)
    endless = (
        "CREATE TABLE extra (a TEXT); INSERT INTO extra"
        " WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT hex(randomblob(500)) FROM n"
    )
    child = subprocess.Popen(migrating(tmp_path, endless))
    try:  # its pages reach the log before it is done
        log = tmp_path / "state.db-wal"
        until(lambda: log.exists() and log.stat().st_size > 1_000_000, what="the migration")
    finally:
        child.kill()
        child.wait()
    assert schema(tmp_path) == before
    with Store(tmp_path) as state:
        state.add_release(release("a"))


def test_two_programs_that_make_the_database_at_once(tmp_path: Path) -> None:
    script = "CREATE TABLE extra (a); INSERT INTO extra VALUES (1)"
    several = [subprocess.Popen(migrating(tmp_path, script)) for _ in range(4)]
    assert [one.wait(timeout=60) for one in several] == [0] * 4
    version, tables = schema(tmp_path)
    assert version == len(MIGRATIONS) + 1
    assert "extra" in tables


def test_a_transaction_within_another_is_part_of_it(state: Store) -> None:
    def part() -> None:
        with state.transaction():
            state.add_release(release("a"))
            state.put_in_service("a", "code", "run")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        part()
    assert state.unused


def test_a_copy_is_of_one_moment_while_another_program_writes(tmp_path: Path) -> None:
    """Each transaction adds a release and puts it in service: every copy has as many of one as of the other."""
    writes = (
        "import sys, itertools; from pathlib import Path; from plantops.store import Store, Release\n"
        "with Store(Path(sys.argv[1])) as store:\n"
        "    for number in itertools.count():\n"
        "        with store.transaction():\n"
        "            store.add_release(Release(str(number), '', None, 'd', True, None, None, None))\n"
        "            store.put_in_service(str(number), 'code', 'x' * 3000)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", writes, str(tmp_path)])
    try:
        until(
            lambda: (tmp_path / "state.db").exists() and Store(tmp_path, readonly=True).in_service(), what="a writing"
        )
        counts = []
        for number in range(20):
            store.copy(tmp_path / "state.db", tmp_path / f"copy{number}")
            with closing(sqlite3.connect(tmp_path / f"copy{number}")) as db:
                counts.append(
                    [db.execute(f"SELECT count(*) FROM {one}").fetchone()[0] for one in ("release", "service")]
                )
    finally:
        child.kill()
        child.wait()
    assert [one[0] for one in counts] == [one[1] for one in counts]
    assert counts[-1][0] > counts[0][0] > 0


def test_looking_makes_no_file(tmp_path: Path) -> None:
    with Store(tmp_path / "none", readonly=True) as state:
        assert state.last_run() is None
    assert not (tmp_path / "none").exists()


def test_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom plantops import lock\n"
        f"with lock.hold(Path({str(tmp_path)!r})):\n print('held', flush=True)\n time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout
        assert child.stdout.readline() == "held\n"
        assert f"pid {child.pid}" in lock.holder(tmp_path)
        with pytest.raises(Busy, match=f"pid {child.pid}"), lock.hold(tmp_path):
            pass
    finally:
        child.kill()
        child.wait()
    with lock.hold(tmp_path):
        pass
    until(lambda: lock.holder(tmp_path) == "", what="the lock's release")


def test_when_a_trigger_began_runs_and_how_they_ended(state: Store) -> None:
    ends = [("watch", store.FAILED), ("by hand", store.RELEASED), ("watch", store.FAILED), ("watch", "")]
    for trigger, end in ends:
        run = state.begin(trigger, {}, "f", {})
        if end:
            state.finish(run, end)
    times = [run.started for run in state.runs() if run.trigger == "watch"]
    assert state.begun("watch", 10) == times
    assert state.begun("watch", 2) == times[:2]
    assert state.outcomes() == {store.FAILED: 2, store.RELEASED: 1}, "the last one has not ended"


def test_since_when_a_release_serves(state: Store) -> None:
    assert state.in_service_since() == ""
    state.add_release(release("one"))
    before = store.now()
    state.put_in_service("one", "code", "run")
    assert before <= state.in_service_since() <= store.now()
