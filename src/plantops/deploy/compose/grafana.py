"""Grafana's password. Grafana takes the one in its environment when its volume is new, and never again.

So a password that comes later is set by Grafana's own command. Until that is done, only this machine reaches Grafana.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from plantops.errors import SetupError

LOOPBACK = "127.0.0.1"
# In the container, whose environment has the password: no list of processes shows it.
RESET = 'printf "%s\\n" "$GF_SECURITY_ADMIN_PASSWORD" | grafana cli admin reset-admin-password --password-from-stdin'
_EVERYBODYS = ("", "admin")


class Password:
    """The admin's password as it is wanted (empty: nobody chose one); ``note`` keeps a hash of the one set last."""

    def __init__(self, value: str, note: Path) -> None:
        self.value = value
        self._note = note

    def check(self, bind: str) -> None:
        """Raise SetupError when Grafana would listen on ``bind`` with the password that everybody knows."""
        if bind != LOOPBACK and self.value in _EVERYBODYS:
            raise SetupError(f"grafana.bind is {bind}, and no password is set", "export GRAFANA_PASSWORD=…")

    def allows(self, bind: str) -> str:
        """Where Grafana may listen now, when it is to listen on ``bind``."""
        return bind if self.value not in _EVERYBODYS and self.is_set() else LOOPBACK

    def is_set(self) -> bool:
        """Whether it was the last one that was set."""
        if not self._note.is_file():
            return False
        salt, _, hashed = self._note.read_text(encoding="ascii").partition(":")
        return secrets.compare_digest(hashed, self._hash(salt))

    def remember(self) -> None:
        """Grafana has it now."""
        salt, fresh = secrets.token_hex(16), self._note.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(f"{salt}:{self._hash(salt)}", encoding="ascii")
        os.replace(fresh, self._note)

    def _hash(self, salt: str) -> str:
        return hashlib.scrypt(self.value.encode(), salt=bytes.fromhex(salt), n=2**14, r=8, p=1).hex()
