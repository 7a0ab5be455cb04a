"""The loop of watch: look, decide whether to run, run, tell, wait for the next reason to look."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from plantops import checking, config, detect, lease, lock, news, notify, pipeline, recall, store
from plantops.config import OWN_FILES, Config
from plantops.console import Console
from plantops.errors import Busy, PlantopsError, Refused, SetupError, StepFailed, in_words
from plantops.follow import ONCE_S, Follower
from plantops.pipeline import Outcome
from plantops.plan import Plan
from plantops.steps import Options
from plantops.watch import heartbeat, metrics, places
from plantops.watch.events import Events
from plantops.watch.guard import EVERY_S, Guard
from plantops.watch.others import Others
from plantops.watch.patience import Rules, Try, Turn, clock, decide, pause
from plantops.watch.places import Moved
from plantops.watch.signals import Calls

TRIGGER = "watch"
_BUSY_S = 1.0
_AT_ONCE = timedelta(seconds=0.2)  # enough for the events of a run to be heard
FAILURES = (PlantopsError, OSError, store.Error)  # of a look or a run: the next may do better
Summary = Callable[[Config, Outcome, Console], None]


@dataclass
class _Hindrance:
    """What keeps a look from being made or a run from beginning: told once, tried again with growing pauses."""

    said: str = ""
    times: int = 0
    ready: datetime | None = None
    _clock: float = 0.0

    def met(self, error: PlantopsError, interval_s: float) -> bool:
        """It is there (again); says whether it is another one than before."""
        new = error.message != self.said
        self.said, self.times = error.message, 1 if new else self.times + 1
        wait = pause(self.times, interval_s)
        self.ready, self._clock = datetime.now(UTC) + wait, time.monotonic() + wait.total_seconds()
        return new

    def turn(self) -> Turn | None:
        """What to do while it lasts; None: try."""
        if self.ready is None or time.monotonic() >= self._clock:
            return None
        return Turn(f"{self.said.splitlines()[0]} (trying again at {clock(self.ready)}, or at a change)", self.ready)

    def look_again(self) -> None:
        """Something moved: it may be over, and is not told anew if it is not."""
        self.times, self.ready = 0, None


class Watch:
    """Watches one project. ``interval_s`` overrides the one in config.yaml; ``summary`` tells how a run ended."""

    def __init__(self, settings: Config, console: Console, interval_s: float | None, summary: Summary) -> None:
        self.config, self.console, self._summary, self._given_s = settings, console, summary, interval_s
        self._beat = heartbeat.first(self.interval_s)
        self._hindrance, self._follower, self._guard = _Hindrance(), Follower(), Guard(self._tell)
        self._others = Others()
        self._closely = True  # look at the photos, the code and the gate's rules, too, as a run does
        self._loose: tuple[str, ...] = ()
        self._seen = ""  # the fingerprint at the last look
        self._told: dict[str, object] = {}
        self._forgiven: set[str] = set()  # failed runs on an older config.yaml
        self._config_stat = _stat(settings)
        self._asked = False  # by a signal, to read config.yaml again

    @property
    def interval_s(self) -> float:
        """Seconds between two looks at most."""
        return self.config.watch.interval_s if self._given_s is None else self._given_s

    @property
    def _adds(self) -> bool:
        """Whether there are photos that a run would add."""
        return bool(self._loose) and self.config.data.untracked == "add"

    def keep(self, calls: Calls) -> None:
        """Watch until a signal ends it (KeyboardInterrupt). Raises Busy when another watch is going here."""
        with lock.hold(self.config.state, lock.WATCH):
            self._keep(calls)

    def _keep(self, calls: Calls) -> None:
        events = Events(calls, self._tell)
        self._tell(f"watching {self.config.root} by file events, and every {self.interval_s:g} s")
        if shared := places.shared_disks(self.config):
            self._tell(f"other machines can write to {', '.join(shared)} without an event: found by the interval")
        try:
            self._note(self._beat)
            moved = Moved(folders=True)
            while True:
                known, self._asked = self.config, calls.read_again()
                events.arm(known, moved.folders)
                turn = self._turn(events, moved, by_looking=events.deaf or bool(shared))
                moved = self._rest(events, turn) if self.config is known else Moved(folders=True)
        finally:
            events.close()
            self._note(heartbeat.stopped(self._beat))
            why = "by SIGTERM" if calls.ended else "interrupted, or by an error that the terminal shows"
            notify.post(self.config, self.console, news.watch_stopped(self.config, self._beat.since, why))

    def once(self) -> None:
        """One look, and at most one run. Raises what a run raises, and StepFailed when it was tried too often."""
        ours = heartbeat.alive(self.config.state) is None
        self._beat = heartbeat.first(self.interval_s, heartbeat.ONCE)
        self._follower = Follower(ONCE_S)
        try:
            if not self._look().waiting:
                return
            Events(Calls(), self._tell).settle(self.config)
            todo = self._look()
            if holder := lock.holder(self.config.state):
                raise Busy(f"another run is going: {holder}", "plantops status")
            turn = self._may(todo)
            if turn.go:
                outcome = pipeline.run(self.config, Options(), self.console, TRIGGER)
                self._summary(self.config, outcome, self.console)
            elif turn.until:
                self._tell(turn.why)
            else:
                raise StepFailed(turn.why, "plantops status")
        finally:
            if ours:
                self._note(self._beat)

    def _turn(self, events: Events, moved: Moved, by_looking: bool) -> Turn:
        """One look and at most one run; what to wait for then."""
        if moved:
            moved |= events.settle(self.config)
            self._hindrance.look_again()
        adds = self.config.data.untracked == "add"
        self._closely |= moved.photos or moved.folders or (adds and by_looking)
        try:
            seen = self._seen, self._loose
            todo = self._look()
            if not moved and self._seen and seen != (todo.fingerprint, self._loose):  # by looking: it may still move
                events.settle(self.config)
                self._hindrance.look_again()
                todo = self._look()
            turn = self._decide(todo)
        except FAILURES as failed:
            error = _said(failed)
            if self._told.get("look") != error.message:
                self.console.error(error)
            self._told["look"], self._closely = error.message, True
            turn = Turn(error.message.splitlines()[0], datetime.now(UTC) + timedelta(seconds=self.interval_s))
        self._note(_after(self._beat, turn, self._follower.waits))
        return turn

    def _look(self) -> Plan:
        """What is due, after what comes before each look."""
        news = self._follower.look(self.config, self.interval_s) + self._others.look(self.config, self.interval_s)
        for said in news:
            self._tell(said)
        self._reread()  # after the settling and what came by git: a run goes by the rules that came with its inputs
        going = bool(lock.holder(self.config.state))
        todo = checking.look(self.config, deep=self._closely and not going)
        if todo.loose is not None:
            self._loose, self._closely = tuple(todo.loose), False
        self._tell_due(todo)
        return todo

    def _decide(self, todo: Plan) -> Turn:
        """Run or wait, if anything is due."""
        self._seen = todo.fingerprint
        self._told.pop("look", None)
        drifts = not todo.due and self._guard.retrain(self.config, _given(todo))
        if not (todo.due or self._adds or drifts):
            self._hindrance = _Hindrance()
            self._told.pop("busy", None)
            return Turn()
        if holder := self._holder():
            return self._busy(holder)
        self._told.pop("busy", None)
        if hindered := self._hindrance.turn():
            return hindered
        turn = self._may(todo)
        if turn.go:
            return self._run(todo, drifts)
        self._tell(turn.why, "wait")
        return turn

    def _may(self, todo: Plan) -> Turn:
        """Whether a run may start now, by what the store knows of the last ones."""
        rules = Rules(self.interval_s, self.config.watch.max_retries, self.config.watch.max_runs_per_hour)
        with recall.look(self.config) as state:
            begun = [datetime.fromisoformat(one) for one in state.begun(TRIGGER, rules.max_runs_per_hour)]
        # Photos that a run adds are a change like any other.
        owed = [] if self._adds else [one for one in todo.tries if one.id not in self._forgiven]
        tries = [Try(datetime.fromisoformat(one.ended or one.started), one.state != store.FAILED) for one in owed]
        return decide(tries, begun, rules, datetime.now(UTC))

    def _run(self, todo: Plan, drifts: bool) -> Turn:
        """Run, all of it where the photos drift; what came of it is found by the next look, at once."""
        self._note(replace(self._beat, checked=store.now(), state=heartbeat.RUNNING, why="", next_try=None))
        if todo.owed:
            self._tell(f"trying again after run {todo.owed[0].id}, which {todo.owed[0].ended_how}")
        before = self._newest()
        try:
            if drifts:
                self._guard.retraining(self.config, _given(todo))
                self._tell("the photos have changed: everything is run again (monitor.on_drift: retrain)")
            with self._guard.beside(self.config, self.console, self._pulse):
                outcome = pipeline.run(self.config, Options(force=drifts), self.console, TRIGGER)
            self._summary(self.config, outcome, self.console)
        except Refused as error:
            self.console.error(error)
        except Busy as error:
            return self._busy(error.message)
        except FAILURES as failed:
            if self._newest() == before:  # it did not begin
                return self._hindered(_said(failed))
            self._tell_error(_said(failed))
        else:
            self._told.clear()
            if outcome.state == "nothing":
                return Turn()
        self._hindrance, self._loose = _Hindrance(), ()
        return Turn(until=datetime.now(UTC) + _AT_ONCE)

    def _rest(self, events: Events, turn: Turn) -> Moved:
        """Wait for the next reason to look: an event, the interval, what ``turn`` waits for."""
        left = timedelta(seconds=self.interval_s)
        if turn.until:
            left = min(left, turn.until - datetime.now(UTC))
        moved, until = self._guarded(events, max(0.0, left.total_seconds())), time.monotonic() + self.interval_s
        while self._told.get("busy") and self._holder() and time.monotonic() < until:
            moved |= events.wait(_BUSY_S)
        return moved

    def _guarded(self, events: Events, seconds: float) -> Moved:
        """Wait, and look at what the API does meanwhile, also where the interval is long."""
        deadline = time.monotonic() + seconds
        while True:
            self._guard.look(self.config, self.console)
            moved = events.wait(min(EVERY_S, max(0.0, deadline - time.monotonic())))
            if moved or events.called or time.monotonic() >= deadline:
                return moved

    def _holder(self) -> str:
        """Who is at it already, here or on a machine that shares the project; empty where nobody is."""
        if here := lock.holder(self.config.state):
            return f"another run is going: {here}"
        elsewhere = lease.others(self.config)
        return f"another machine releases: {elsewhere}" if elsewhere else ""

    def _busy(self, why: str) -> Turn:
        self._tell(f"waiting: {why}", "busy")
        return Turn(why, datetime.now(UTC))

    def _hindered(self, error: PlantopsError) -> Turn:
        self._closely = True
        if self._hindrance.met(error, self.interval_s):
            self.console.error(error)
            self._tell("trying again with growing pauses, or as soon as something changes")
        return self._hindrance.turn() or Turn()

    def _tell_error(self, error: PlantopsError) -> None:
        """The whole error at first; one line when a retry ends in the same."""
        line = error.message.splitlines()[0]
        if self._told.get("error") == line:
            self._tell(f"failed as before: {line}")
        else:
            self.console.error(error)
        self._told["error"] = line

    def _tell_due(self, todo: Plan) -> None:
        hidden = todo.due or self._adds  # the run tells of such photos, with what helps
        ours = any(one.file in OWN_FILES for one in todo.changes)  # not while a run writes them
        key = (todo.fingerprint if ours else _given(todo), todo.due, () if hidden else self._loose)
        if self._told.get("due") != key and (todo.due or not self._adds):
            self._tell("; ".join((replace(todo, loose=None) if hidden else todo).sentences()))
            self._told["due"] = key

    def _tell(self, text: str, topic: str = "") -> None:
        """A line with the time; of one ``topic`` the same is not told twice in a row."""
        if not topic or self._told.get(topic) != text:
            self.console.say(f"{time.strftime('%H:%M:%S')} {text}")
        if topic:
            self._told[topic] = text

    def _reread(self) -> None:
        """Read config.yaml again if it moved or a signal asked; a bad one is told, and the old one holds.

        So it does while the file is empty, as some programs leave it for a moment, unless a signal asked.
        """
        now, asked, self._asked = _stat(self.config), self._asked, False
        if now == self._config_stat and not asked:
            return
        self._config_stat = now
        if now and not now[0] and not asked:
            self._tell(f"{self.config.file.name} is empty; the settings from before hold", "config")
            return
        try:
            fresh = config.load(self.config.root, self.config.file)
        except SetupError as error:
            self._tell(f"{error.message}; the settings from before hold", "config" if not asked else "")
            return
        if fresh == self.config:
            if asked:
                self._tell(f"{self.config.file.name} read again: nothing changed")
            return
        self._tell(f"{self.config.file.name} read again")
        self._told.pop("config", None)
        self.config, self._closely = fresh, True
        self._hindrance.look_again()
        with recall.look(fresh) as state:
            self._forgiven = {one.id for one in state.unfinished(going_on=False)}

    def _newest(self) -> str:
        with recall.look(self.config) as state:
            last = state.last_run()
        return last.id if last else ""

    def _pulse(self) -> None:
        """Write the metrics in a run, too: a watch that was killed in it is told by their age."""
        try:
            with recall.look(self.config) as state:
                facts = metrics.Facts.of(state, self.config)
            metrics.write(self.config.state, replace(self._beat, checked=store.now()), facts)
        except FAILURES as error:
            self._tell(f"the metrics cannot be written: {error}", "heartbeat")

    def _note(self, beat: heartbeat.Beat) -> None:
        """Write the heartbeat and the metrics. Where that cannot be, watching goes on."""
        try:
            with recall.look(self.config) as state:
                facts = metrics.Facts.of(state, self.config)
            last = facts.last
            shown = {"id": last.id, "state": last.state, "started": last.started, "ended": last.ended} if last else None
            self._beat = replace(beat, last_run=shown, interval_s=self.interval_s)
            heartbeat.write(self.config.state, self._beat)
            metrics.write(self.config.state, self._beat, facts)
        except FAILURES as error:
            self._tell(f"the heartbeat cannot be written: {error}", "heartbeat")


def _after(beat: heartbeat.Beat, turn: Turn, git: str) -> heartbeat.Beat:
    """The heartbeat after a look that ended with ``turn``; ``git``: why commits wait, if they do."""
    state = heartbeat.WAITING if turn.why else heartbeat.WATCHING
    until = turn.until.isoformat(timespec="seconds") if turn.why and turn.until else None
    return replace(beat, checked=store.now(), state=state, why=turn.why or git, next_try=until)


def _said(failed: Exception) -> PlantopsError:
    """A failure in words, as far as there are some."""
    if isinstance(failed, PlantopsError):
        return failed
    return in_words(failed) or StepFailed(f"the machine refused: {failed}", "plantops doctor")


def _given(todo: Plan) -> str:
    """The fingerprint of the inputs, but for what runs write themselves."""
    return detect.fingerprint(detect.given(todo.inputs))


def _stat(settings: Config) -> tuple[int, int, int] | None:
    try:
        found = os.stat(settings.file)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino
