"""The database that machines share: PostgreSQL, reached within seconds, its errors in words."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from plantops import extras
from plantops.config import ShareConfig
from plantops.errors import SetupError, redacted

if TYPE_CHECKING:
    from psycopg import Connection, Cursor

Row = tuple[Any, ...]
_CONNECT_S = 5
_RETRY_S = 0.5
_GRACE_S = 1  # for the server to say itself that a lock is not to be had
_PASSWORD = "export PGPASSWORD=…, or a line in ~/.pgpass"
# What the server says -> the command that helps.
_HINTS = (
    (r"password|authentication|pg_hba|role .* does not exist", _PASSWORD),
    (r"permission denied", "GRANT USAGE, CREATE ON SCHEMA public TO that user"),
    (r"", "start it, or mend share.database in config.yaml"),
)


class Away(SetupError):
    """The shared database cannot be reached, or does not take what is said to it."""


class Locked(Away):
    """Somebody else has hold of the row for as long as may be waited."""


class Line:
    """A line to the database, laid again when it breaks, but for one in the middle of a transaction.

    Each statement stands for itself unless a transaction is begun. Several threads may ask. libpq finds the password
    in PGPASSWORD or ~/.pgpass. Whoever says nothing in a transaction for ``lease_s`` is thrown out by the server;
    no answer is waited for longer, and no lock unless that is asked for.
    """

    def __init__(self, share: ShareConfig) -> None:
        """Raises Away, SetupError where config.yaml is wrong or the driver is not installed."""
        _check(share)
        self._share = share
        self._alone = threading.RLock()
        self._open = False
        self._db = self._connected()

    def one(self, sql: str, values: Mapping[str, Any], patient: bool = True, turns: int = 1) -> Row | None:
        """The first row of an answer. Raises Away, if ``patient`` once it has not been to be had for ``lease_s``.

        A lock is waited for so many ``turns`` of ``lease_s``; inside a transaction one.
        """
        with self._alone:
            for left in reversed(range(turns)):
                try:
                    return _first(self._ask(sql, values))
                except Locked:
                    if self._open or not left:
                        raise
                except Away:
                    if self._open:
                        raise
                    break
            self._lay_again(patient)
            return _first(self._ask(sql, values))

    def all(self, sql: str, values: Mapping[str, Any]) -> list[Row]:
        """All rows of an answer. Raises Away."""
        with self._alone:
            return self._ask(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is asked inside is one transaction. Raises Away."""
        with self._alone:
            self.one("BEGIN", {})
            self._open = True
        try:
            yield
            self.one("COMMIT", {})
        except BaseException:
            with suppress(Away):  # gone with the line
                self.one("ROLLBACK", {})
            raise
        finally:
            self._open = False

    def script(self, sql: str) -> None:
        """Several statements without values. Raises Away."""
        with self._alone:
            self._ask(sql, None)

    def close(self) -> None:
        """Hang up."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, sql: str, values: Mapping[str, Any] | None) -> Cursor[Row]:
        with self._in_words(), _bounded(self._db, self._share.lease_s + _GRACE_S):
            return self._db.execute(sql, values)

    def _connected(self) -> Connection[Row]:
        psycopg = _driver()
        limit = round(1000 * self._share.lease_s)
        with self._in_words():
            db: Connection[Row] = psycopg.connect(
                self._share.database, autocommit=True, connect_timeout=_CONNECT_S, application_name="plantops",
                tcp_user_timeout=limit,
            )  # fmt: skip
            with _bounded(db, _CONNECT_S):
                for name in ("lock_timeout", "idle_in_transaction_session_timeout"):
                    db.execute("SELECT set_config(%s, %s, false)", (name, f"{limit}ms"))
        return db

    def _lay_again(self, patient: bool) -> None:
        deadline = time.monotonic() + (self._share.lease_s if patient else 0)
        self._db.close()
        while True:
            try:
                self._db = self._connected()
            except Away:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_RETRY_S)
            else:
                return

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.Error as error:
            said = " ".join(str(error).split())[:300] or type(error).__name__
            hint = next(hint for pattern, hint in _HINTS if re.search(pattern, said))
            kind = Locked if isinstance(error, psycopg.errors.LockNotAvailable) else Away
            raise kind(f"the shared database {redacted(self._share.database)}: {said}", hint) from None


def _first(answer: Cursor[Row]) -> Row | None:
    return answer.fetchone() if answer.description else None


@contextmanager
def _bounded(db: Connection[Row], seconds: float) -> Iterator[None]:
    """Cut the line when what is inside takes longer: a server that stands still neither answers nor hangs up."""
    timer = threading.Timer(seconds, _cut, [db])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _cut(db: Connection[Row]) -> None:
    import psycopg

    try:
        with socket.socket(fileno=os.dup(db.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
    except (psycopg.Error, OSError):  # it is closed already
        return


def _check(share: ShareConfig) -> None:
    database = share.database
    if not 1 <= share.lease_s <= 3600:
        raise SetupError(
            f"share.lease_s must be from 1 to 3600 seconds, not {share.lease_s:g}", "mend it in config.yaml"
        )
    if not re.match(r"postgres(ql)?://", database):
        raise SetupError("share.database must be postgresql://USER@HOST/DATABASE", "mend it in config.yaml")
    if _password(database) or re.search(r"[?&](ssl)?password=", database):
        raise SetupError("share.database holds a password, and config.yaml is for everybody to read", _PASSWORD)


def _password(database: str) -> str | None:
    try:
        return urlsplit(database).password
    except ValueError as error:
        raise SetupError(f"share.database: {error}", "mend it in config.yaml") from None


def _driver() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise SetupError(f"share.database takes psycopg: {error}", extras.command("shared")) from None
    return psycopg
