"""A finding: a sentence, the photos it is about, and the command that helps."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

NOTE, WARN, STOP = "note", "warn", "stop"
_SHOWN = 3


@dataclass(frozen=True)
class Case:
    """One photo or several that belong together, by path, and a remark."""

    paths: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """What a rule found. ``help``: what a person can do. ``level``: what `data.rules` makes of it: note, warn, stop."""

    rule: str
    sentence: str
    help: str
    cases: tuple[Case, ...] = ()
    level: str = NOTE

    def named(self) -> str:
        """The first photos by name, and how many more there are."""
        first = [" = ".join(one.paths[:2]) + (f" ({one.note})" if one.note else "") for one in self.cases[:_SHOWN]]
        more = len(self.cases) - len(first)
        return ", ".join(first) + (f" and {more:,} more" if more else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def count(photos: int) -> str:
    """A number of photos in words."""
    return f"{photos:,} photo{'' if photos == 1 else 's'}"
