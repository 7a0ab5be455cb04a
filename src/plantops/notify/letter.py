"""News, and the letters that hold it until it is delivered: one small file each, which stays as a mark.

The file's name is what happened and to what, so that nothing is told twice, however often plantops starts again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from plantops import whole
from plantops.store import now

FOLDER = "letters"
# To one receiver. `sending` is written before it is sent: whoever dies then does not send it twice.
WAITING, SENDING, SENT, FAILED, ENDED = "waiting", "sending", "sent", "failed", "ended"
_KEPT = 300
_STALE = timedelta(days=1)  # what is older is no news any more


@dataclass(frozen=True)
class News:
    """What happened: ``event`` to ``subject`` (a run's id, say). ``numbers`` are shares in 0..1; ``links`` are URLs."""

    event: str
    subject: str
    project: str
    title: str
    lines: tuple[str, ...] = ()
    run: str = ""
    release: str = ""
    numbers: dict[str, float] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    at: str = field(default_factory=now)

    @property
    def name(self) -> str:
        """The same for the same event, whoever tells of it."""
        return re.sub(r"[^\w.-]+", "-", f"{self.subject}-{self.event}")

    @property
    def text(self) -> str:
        """The message below the title."""
        return "\n".join([*self.lines, *(f"{name}: {url}" for name, url in self.links.items())]) or self.title


@dataclass
class Delivery:
    """How it stands with one receiver, and whether a failure was told."""

    label: str
    state: str = WAITING
    why: str = ""
    told: bool = False


@dataclass
class Letter:
    """News, and how its delivery stands by receiver."""

    news: News
    to: dict[str, Delivery]

    @property
    def owed(self) -> bool:
        """Whether something of it may still be sent."""
        return any(one.state in (WAITING, FAILED) for one in self.to.values())

    def stale(self) -> bool:
        """Whether it is too old to be told."""
        return datetime.now(UTC) - datetime.fromisoformat(self.news.at) > _STALE


def path(state: Path, news: News) -> Path:
    """Where its letter lies in the state folder."""
    return state / FOLDER / f"{news.name}.json"


def write(state: Path, letter: Letter) -> None:
    """Put a letter on disk, whole. Raises OSError."""
    whole.write(path(state, letter.news), json.dumps(asdict(letter), ensure_ascii=False) + "\n")


def letters(state: Path) -> Iterator[Letter]:
    """All letters that can be read, oldest first."""
    found = [one for file in (state / FOLDER).glob("*.json") if (one := _read(file))]
    yield from sorted(found, key=lambda one: one.news.at)


def prune(state: Path) -> None:
    """Let the oldest go; the newest few hundred stay."""
    for one in list(letters(state))[:-_KEPT]:
        with suppress(OSError):
            path(state, one.news).unlink()


def _read(file: Path) -> Letter | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        news = News(**{**found["news"], "lines": tuple(found["news"]["lines"])})
        return Letter(news, {name: Delivery(**one) for name, one in found["to"].items()})
    except (OSError, ValueError, TypeError, KeyError):  # nobody's letter: it is told to nobody
        return None
