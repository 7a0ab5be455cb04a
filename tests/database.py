"""Debian's PostgreSQL, for real: in a folder of its own, on a free port, by a user without rights, with a password."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from api_client import free_port, until

USER, PASSWORD = "plantops", "s3cret/of:postgres"
_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))


@dataclass
class Server:
    """One server; it can be stopped and started again."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is, without the password."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it; it answers when this is over."""
        argv = [_PROGRAMS[-1], "-D", self.folder / "data", "-p", str(self.port), "-k", self.folder, "-c", "fsync=off"]
        self.process = subprocess.Popen([*argv, "-c", "listen_addresses=127.0.0.1"], **self._plain_user())
        until(self._answers, 30, "PostgreSQL's answer")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it at once: SIGINT hangs up on everybody, SIGQUIT is as a crash."""
        assert self.process
        self.process.send_signal(how)
        self.process.wait(30)

    def make(self) -> None:
        """An empty cluster that lets nobody in without the password."""
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        if os.getuid() == 0:
            found = pwd.getpwnam(_name())
            for path in (self.folder, secret):
                os.chown(path, found.pw_uid, found.pw_gid)
        argv = [_PROGRAMS[-1].with_name("initdb"), "-D", self.folder / "data", "-U", USER, "--pwfile", secret]
        subprocess.run([*argv, "--auth=scram-sha-256", "--no-sync", "-E", "UTF8", "--locale=C"], check=True,
                       **self._plain_user())  # fmt: skip

    def _answers(self) -> bool:
        assert self.process
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return "ready to accept connections" in (self.folder / "log").read_text()

    def _plain_user(self) -> dict[str, object]:
        """PostgreSQL does not run as root."""
        said = (self.folder / "log").open("wb")
        other = {"user": _name(), "group": pwd.getpwnam(_name()).pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
        return {"cwd": self.folder, "stdout": said, "stderr": said, **other}


def _name() -> str:
    """Debian's package brings a user."""
    return "postgres" if any(one.pw_name == "postgres" for one in pwd.getpwall()) else "nobody"


@contextmanager
def running() -> Iterator[Server]:
    """A server of one's own, its password in PGPASSWORD; skipped plainly where there is no PostgreSQL."""
    if not _PROGRAMS:
        pytest.skip("no PostgreSQL (apt install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # not in pytest's, which is for its own user alone
    server = Server(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", PASSWORD)
        try:
            server.make()
            server.start()
            yield server
        finally:
            if server.process and server.process.poll() is None:
                server.stop()
            shutil.rmtree(folder)
