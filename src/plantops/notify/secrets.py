"""``${NAME}`` and ``${file:PATH}`` in config.yaml: a value from the environment or a file, read when it is needed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

from plantops.errors import HIDDEN, SetupError, redacted

_PLACE = re.compile(r"\$\{(file:)?([^}]+)\}")
_SHORTEST = 5  # shorter pieces of an address are words such as `json`, and no secrets


def revealed(text: str, root: Path) -> str:
    """``text`` with its secrets: as they are where one is the whole of it, quoted for a URL where it is a part.

    Raises SetupError naming the variable or file that is missing or empty.
    """
    whole = _PLACE.fullmatch(text)
    if whole:
        return _value(whole, root)
    return _PLACE.sub(lambda place: quote(_value(place, root), safe=""), text)


def scrubbed(text: str, *secrets: str) -> str:
    """``text``, another program's words, without ``secrets``: none of them, nor a piece of an address, is left."""
    pieces = {piece for secret in secrets for piece in (secret, *re.split(r"[/?&=:@]+", secret))}
    pieces |= {unquote(piece) for piece in pieces}  # whoever takes an address apart speaks of its parts as they are
    for piece in sorted(pieces, key=len, reverse=True):
        if len(piece) >= _SHORTEST:
            text = text.replace(piece, HIDDEN)
    return redacted(text)


def _value(place: re.Match[str], root: Path) -> str:
    from_file, name = place.groups()
    try:
        value = (root / Path(name).expanduser()).read_text(encoding="utf-8").strip() if from_file else os.environ[name]
    except (OSError, ValueError) as error:
        raise SetupError(f"notify: {name} cannot be read: {error}", f"ls -l {name}") from None
    except KeyError:
        raise SetupError(f"notify: {name} is not in the environment", f"export {name}=…, or ${{file:PATH}}") from None
    if not value:
        raise SetupError(f"notify: {name} is empty", "notify in config.yaml names it")
    return value
