"""Keys of the API. A key is 256 random bits, so one round of SHA-256 hides it: there is nothing to guess."""

from __future__ import annotations

import hashlib
import secrets


def new_key() -> str:
    """A key, 43 characters that need no quotes."""
    return secrets.token_urlsafe(32)


def hash_of(key: str) -> str:
    """What config.yaml and the workers know of a key, hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()
