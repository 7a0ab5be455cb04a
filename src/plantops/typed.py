"""A dataclass from plain values, as YAML gives them, checked against its type hints."""

from __future__ import annotations

import difflib
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints


class Wrong(ValueError):
    """A value that the dataclass does not take; the text names its path and what was expected."""


def build(kind: Any, values: dict[str, Any], path: str = "", **given: Any) -> Any:
    """An instance of the dataclass ``kind``; ``given`` fields are not the user's to set, ``path`` leads to ``values``.

    Raises Wrong.
    """
    hints = get_type_hints(kind)
    known = [one.name for one in fields(kind) if one.name not in given]
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, 1)
            raise Wrong(f"unknown key {path}{key}" + (f" (did you mean {path}{close[0]}?)" if close else ""))
    return kind(**given, **{key: _value(hints[key], value, f"{path}{key}") for key, value in values.items()})


def _value(hint: Any, value: Any, path: str) -> Any:
    if is_dataclass(hint):
        if value is None:
            return hint()  # type: ignore[operator]
        if not isinstance(value, dict):
            raise Wrong(f"{path} must hold keys and values, not {value!r}")
        return build(hint, value, path + ".")
    if isinstance(hint, UnionType):  # it may be null
        return None if value is None else _value(get_args(hint)[0], value, path)
    if get_origin(hint) is Literal:
        if isinstance(value, bool) and "on" in get_args(hint):  # what YAML makes of on and off
            value = "on" if value else "off"
        if value not in get_args(hint):
            raise Wrong(f"{path} must be one of {', '.join(map(repr, get_args(hint)))}, not {value!r}")
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise Wrong(f"{path} must be a list, as [a, b], not {value!r}")
        return tuple(_value(get_args(hint)[0], one, f"{path}[{place}]") for place, one in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise Wrong(f"{path} must be {hint.__name__}, not {value!r}")
    return value
