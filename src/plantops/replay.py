"""The last real requests, answered by a release without traffic yet: where it answers otherwise, and a page of it."""

from __future__ import annotations

import base64
import io
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from plantops import kept, whole
from plantops.config import Config
from plantops.console import Console
from plantops.deploy import Backend, Trial, probe
from plantops.deploy.address import Address
from plantops.probation import Probation, sent_back
from plantops.store import Store

FEWEST = 50
NOT_TAKEN = "not taken"  # instead of a class
TOO_MANY = 0.5  # of so many: that is another model than the one that people were answered by
_LIMIT_S = 60.0
_SHOWN, _SIDE = 60, 128
_STYLE = """:root { color-scheme: light dark; } body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem;
margin: 2rem auto; padding: 0 1.25rem; } td, th { padding: .2rem .8rem; text-align: left; }
.photos { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; width: 10rem; }
figcaption { font-size: .8rem; overflow-wrap: anywhere; } img { width: 8rem; height: 8rem; object-fit: cover; }"""


@dataclass(frozen=True)
class Other:
    """A photo that the two answer otherwise: class and confidence of the one in service, then of the candidate.

    ``thumbnail``: JPEG in Base64; empty where there are many before it, and of one that the candidate does not take."""

    thumbnail: str
    old: tuple[str, float]
    new: tuple[str, float]


@dataclass(frozen=True)
class Replayed:
    """``asked`` photos, and those that are answered otherwise."""

    asked: int
    others: list[Other]

    @property
    def share(self) -> float:
        """Of the photos that are answered otherwise."""
        return len(self.others) / self.asked if self.asked else 0.0

    def sentence(self) -> str:
        """In words."""
        return f"{len(self.others)} of the last {self.asked} photos are answered otherwise"


def page(config: Config, release: str) -> Path:
    """Where the page of a release is. Not with its bundle: that is copied to other places, and these are people's
    photos."""
    return config.state / "replay" / f"{release}.html"


def before_switch(
    config: Config, store: Store, console: Console, backend: Backend, trial: Trial, names: Mapping[str, str]
) -> str:
    """Have the trial answer them, if they are kept (serve.replay); what it answers otherwise, in words.

    ``names``: what it calls classes that the release in service calls otherwise.

    Raises Refused where that is most of them and `deploy.auto_rollback` is on, StepFailed when it does not answer.
    """
    current = store.in_service()
    if not config.serve.replay or current is None or current.id == trial.release:
        return ""
    found = replay(config, trial.address, current.id, names)
    if not found.asked:
        return ""
    where = write(config, trial.release, found).relative_to(config.root)
    said = f"{found.sentence()} ({where})"
    if config.deploy.auto_rollback == "on" and found.asked >= FEWEST and found.share > TOO_MANY:
        raise sent_back(config, store, console, Probation(backend, trial.release, None, [said]))
    return f"; {said}"


def replay(config: Config, address: Address, in_service: str, names: Mapping[str, str]) -> Replayed:
    """Ask the candidate at ``address`` what the release ``in_service`` was asked last, for a minute at most.

    ``names``: what the candidate calls classes that the other calls otherwise: these are no other answers.

    Raises StepFailed when it does not answer.
    """
    asked, others, deadline = 0, list[Other](), time.monotonic() + _LIMIT_S
    for photo, answer in kept.recent(config.kept):
        if time.monotonic() > deadline:
            break
        if answer.get("release") != in_service:
            continue
        best, share = _asked(address, photo)
        asked, before = asked + 1, answer["prediction"]
        if best != names.get(before, before):
            shown = _thumbnail(photo) if best != NOT_TAKEN and len(others) < _SHOWN else ""
            others.append(Other(shown, (before, answer["confidence"]), (best, share)))
    return Replayed(asked, others)


def _asked(address: Address, photo: bytes) -> tuple[str, float]:
    """What the candidate says, and how surely. One photo that its settings do not allow any more is no failure."""
    try:
        shares = probe.predict(address, photo)
    except probe.Declined:
        return NOT_TAKEN, 0.0
    return max(shares.items(), key=lambda one: one[1])


def write(config: Config, release: str, found: Replayed) -> Path:
    """The page of a release: counts by pair of classes, and the first photos. Returns where."""
    pairs = Counter((one.old[0], one.new[0]) for one in found.others)
    rows = "".join(
        f"<tr><td>{count}</td><td>{escape(old)}</td><td>{escape(new)}</td></tr>"
        for (old, new), count in pairs.most_common()
    )
    text = (
        f"<!doctype html><meta charset=utf-8><title>{escape(release)}</title><style>{_STYLE}</style>"
        f"<h1>{escape(release)}, asked again</h1><p>{escape(found.sentence())}.</p>"
        f"<table><tr><th>photos</th><th>in service</th><th>candidate</th></tr>{rows}</table>"
        f"<div class=photos>{''.join(_figure(one) for one in found.others[:_SHOWN])}</div>"
    )
    path = page(config, release)
    whole.write(path, text)
    return path


def _figure(one: Other) -> str:
    said = f"{one.old[0]} ({one.old[1]:.0%}) → {one.new[0]} ({one.new[1]:.0%})"
    picture = f'<img alt="" src="data:image/jpeg;base64,{one.thumbnail}">' if one.thumbnail else ""
    return f"<figure>{picture}<figcaption>{escape(said)}</figcaption></figure>"


def _thumbnail(photo: bytes) -> str:
    from PIL import Image

    from plantops.photo import open_photo
    from plantops.photo import whole as decoded

    picture = Image.fromarray(decoded(open_photo(photo)))  # the candidate has read it
    picture.thumbnail((_SIDE, _SIDE))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=75)
    return base64.b64encode(out.getvalue()).decode()
