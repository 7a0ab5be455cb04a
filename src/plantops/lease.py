"""Of the machines that share a project one releases at a time: a lease in PostgreSQL, with a fencing token.

Whoever takes the lease gets the next number, and only the highest number ever given may change what others see. So a
machine that was paused for longer than its lease finds out before it moves traffic, whatever it believes. The time is
the database's alone; the clocks of the machines are never asked.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from plantops import lock
from plantops.config import Config
from plantops.errors import Busy, PlantopsError, StepFailed
from plantops.postgres import Line, Locked

_TABLES = """
SELECT pg_advisory_xact_lock(hashtext('plantops'));  -- IF NOT EXISTS alone fails where two are at it
CREATE TABLE IF NOT EXISTS plantops_lease (
    project text PRIMARY KEY, token bigint NOT NULL, place text NOT NULL, who text NOT NULL, command text NOT NULL,
    since timestamptz NOT NULL, expires timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS plantops_service (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, project text NOT NULL, machine text NOT NULL,
    who text NOT NULL, release text NOT NULL, reason text NOT NULL, token bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""
_THERE = "SELECT to_regclass('plantops_service')"
# Times ``share.lease_s``: fences elsewhere, and views that are written there, may take longer than a lease.
_TURNS = 20
_TURNS_IN_RUN = 2  # a rollback here may be waiting for the switch's lock
# What its own folder under its own kernel left is over: the lock of the run, which we hold, proves that.
_TAKE = """
INSERT INTO plantops_lease AS held (project, token, place, who, command, since, expires)
VALUES (%(project)s, 1, %(place)s, %(who)s, %(command)s, clock_timestamp(), clock_timestamp() + %(lease)s)
ON CONFLICT (project) DO UPDATE SET token = held.token + 1, place = excluded.place, who = excluded.who,
    command = excluded.command, since = clock_timestamp(), expires = clock_timestamp() + %(lease)s
WHERE held.expires <= clock_timestamp() OR held.place = excluded.place
RETURNING token
"""
_KEEP = """
UPDATE plantops_lease SET expires = clock_timestamp() + %(lease)s
WHERE project = %(project)s AND token = %(token)s RETURNING token
"""
# With another token: a renewal that comes late then finds nothing to renew.
_GIVE_BACK = """
UPDATE plantops_lease SET expires = clock_timestamp(), token = token + 1
WHERE project = %(project)s AND token = %(token)s
"""
_HOLDER = """
SELECT who, to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), command, place = %(place)s
FROM plantops_lease WHERE project = %(project)s AND expires > clock_timestamp()
"""
_ORDER = "SELECT token FROM plantops_lease WHERE project = %(project)s FOR UPDATE"
_SERVES = """
INSERT INTO plantops_service (project, machine, who, release, reason, token)
SELECT %(project)s, %(machine)s, %(who)s, %(release)s, %(reason)s, token FROM plantops_lease
WHERE project = %(project)s AND %(release)s IS DISTINCT FROM (
    SELECT release FROM plantops_service WHERE project = %(project)s AND machine = %(machine)s
    ORDER BY number DESC LIMIT 1
)
"""
_NEWEST = "SELECT machine = %(machine)s FROM plantops_service WHERE project = %(project)s ORDER BY number DESC LIMIT 1"
_SERVED = """
SELECT DISTINCT ON (machine) machine, release, who, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    machine = %(machine)s
FROM plantops_service WHERE project = %(project)s ORDER BY machine, number DESC
"""


class Lost(StepFailed):
    """Another machine has the lease by now."""


@dataclass(frozen=True)
class Holder:
    """Who releases: ``since`` when, by the database's clock, UTC; ``here``: a process of this very folder."""

    who: str
    since: str
    command: str
    here: bool

    def __str__(self) -> str:
        return f"{self.who} since {self.since}: {self.command}"


@dataclass(frozen=True)
class Served:
    """What a machine has in service, ``since`` when, by the database's clock, UTC; ``here``: it is this one."""

    machine: str
    release: str
    who: str
    since: str
    here: bool

    def __str__(self) -> str:
        return f"{self.machine} has {self.release} in service since {self.since}, by {self.who}"


@dataclass(frozen=True)
class Seen:
    """What the shared database says: who releases now, and what each machine has in service."""

    releasing: Holder | None = None
    served: tuple[Served, ...] = ()

    @property
    def elsewhere(self) -> list[Served]:
        """What the other machines have in service."""
        return [one for one in self.served if not one.here]


class Lease:
    """Of a project that no machines share: always held, and nobody to tell."""

    def check(self) -> None:
        """Raise Lost where another machine has the lease, Away where the database cannot say for ``share.lease_s``."""

    @contextmanager
    def fence(self) -> Iterator[None]:
        """What others see is changed inside, and nobody gets the lease meanwhile. Not one inside another.

        Raises what :meth:`check` does: before anything is done, or afterwards where the lease was lost over it.
        """
        yield

    def serves(self, release: str, reason: str) -> None:
        """Tell the others what is in service here: inside a fence, at its end."""

    def newest(self) -> bool:
        """Whether nobody else has put a release in service since this machine did: else the aliases are theirs."""
        return True


@contextmanager
def hold(config: Config) -> Iterator[Lease]:
    """Hold the lease of the project, where machines share it. To be called with the lock of the run held.

    Raises Busy naming who has it, Away where the database does not answer.
    """
    if not config.share.database:
        yield Lease()
        return
    with Line(config.share) as line:
        held = _Held(config, line)
        try:
            with _kept_up(held):
                yield held
        finally:
            held.give_back()


@contextmanager
def between(config: Config) -> Iterator[Lease]:
    """For views that are written without the lease, as after a rollback: while nobody is inside a fence.

    Raises Away.
    """
    if not config.share.database:
        yield Lease()
        return
    with Line(config.share) as line:
        shared = _Shared(config, line)
        line.one(_ORDER, shared.values, turns=_TURNS)
        with line.transaction():
            line.one(_ORDER, shared.values)
            with _kept_up(shared):
                yield shared


def look(config: Config) -> Seen | None:
    """What the shared database says; None where there is none. Changes nothing. Raises Away."""
    if not config.share.database:
        return None
    with Line(config.share) as line:
        if line.one(_THERE, {}) == (None,):
            return Seen()
        values = _values(config)
        holder, served = line.one(_HOLDER, values), line.all(_SERVED, values)
    return Seen(Holder(*holder) if holder else None, tuple(Served(*row) for row in served))


def others(config: Config) -> str:
    """Who releases on another machine, in words; empty where nobody does, or the database cannot say."""
    with suppress(PlantopsError):
        seen = look(config)
        if seen and seen.releasing and not seen.releasing.here:
            return str(seen.releasing)
    return ""


@contextmanager
def _kept_up(shared: _Shared) -> Iterator[None]:
    """With a sign of life three times in ``share.lease_s``; what goes wrong with that, the next check finds."""
    over = threading.Event()
    threading.Thread(target=shared.keep_up, args=(over,), name="lease", daemon=True).start()
    try:
        yield
    finally:
        over.set()


class _Shared(Lease):
    """Nobody's lease in the database: what is in service here is told all the same."""

    _sign = "SELECT 1"

    def __init__(self, config: Config, line: Line) -> None:
        self._config, self._line, self.values = config, line, _values(config)
        if line.one(_THERE, {}) == (None,):
            line.script(_TABLES)

    def serves(self, release: str, reason: str) -> None:
        """As :meth:`Lease.serves`; what they know already is no news."""
        self._line.one(_SERVES, {**self.values, "release": release, "reason": reason})

    def newest(self) -> bool:
        """As :meth:`Lease.newest`."""
        return self._line.one(_NEWEST, self.values) in (None, (True,))

    def keep_up(self, over: threading.Event) -> None:
        """Give a sign of life until it is ``over``."""
        while not over.wait(self._config.share.lease_s / 3):
            with suppress(PlantopsError):
                self._line.one(self._sign, self.values, patient=False)


class _Held(_Shared):
    """The lease itself."""

    _sign = _KEEP

    def __init__(self, config: Config, line: Line) -> None:
        super().__init__(config, line)
        try:
            taken = line.one(_TAKE, self.values)
        except Locked:
            taken = None
        if taken is None:
            who = others(config) or "it is changing what is in service just now"
            raise Busy(f"another machine releases: {who}", "plantops status")
        self.values["token"] = taken[0]

    def check(self) -> None:
        """As :meth:`Lease.check`. It is good for another ``lease_s`` then."""
        if self._line.one(_KEEP, self.values, turns=_TURNS_IN_RUN) is None:
            raise Lost(
                f"this run has lost its turn to release (silent for {self._config.share.lease_s:g} s or more); "
                f"who has it now: {others(self._config) or 'nobody any more'}",
                "plantops run, once that is over: it goes on from what is done",
            )

    @contextmanager
    def fence(self) -> Iterator[None]:
        """As :meth:`Lease.fence`: the row of the lease is locked inside."""
        self.check()
        with self._line.transaction():
            self.check()
            yield
            self.check()

    def give_back(self) -> None:
        """Let others have it at once; where the database is away, they have to wait until it runs out."""
        with suppress(PlantopsError):
            self._line.one(_GIVE_BACK, self.values, patient=False)


def _values(config: Config) -> dict[str, Any]:
    me = lock.myself()
    return {
        "project": config.project,
        "lease": timedelta(seconds=config.share.lease_s),
        "place": _place(config.state),
        "machine": f"{me['host']}:{config.root}",
        "who": f"{me['user']}@{me['host']}",
        "command": me["command"],
    }


def _place(state: Path) -> str:
    """This folder under this kernel, where the lock of the run rules out that an earlier holder is alive."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    try:
        found = state.stat()
    except FileNotFoundError:  # nothing was run here yet
        return ""
    return f"{boot} {found.st_dev} {found.st_ino}"
