"""What a training took, and what it saved to go on from a release; kept in release.json under ``training``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plantops.bundle import Manifest
from plantops.shelf import Shelf


def record(shelf: Shelf, manifest: Manifest, seconds: float | None, networks: int) -> dict[str, Any]:
    """``seconds`` that the train stage took for each of its ``networks``; None where it did not run here.

    ``started_from``: the release that it went on from, or None. ``anew_seconds``: what the last training from nothing
    took, by the record of the releases in between.
    """
    started = manifest.model.get("started_from")
    took = None if seconds is None else round(seconds / networks, 1)
    before = shelf.facts(started).get("training") or {} if started else {}
    return {"seconds": took, "started_from": started, "anew_seconds": before.get("anew_seconds") if started else took}


def sentence(training: Mapping[str, Any]) -> str:
    """In words; empty where there is nothing to say."""
    took, started, anew = (training.get(key) for key in ("seconds", "started_from", "anew_seconds"))
    said = "" if took is None else f"trained in {took:,.0f} s"
    if not started:
        return said
    said = f"{said or 'trained'}, going on from {started}"
    if took is None or anew is None:
        return f"{said}; what a training from nothing took is not on record"
    saved = f"{anew - took:,.0f} s saved" if anew > took else "nothing saved"
    return f"{said}; the last one from nothing took {anew:,.0f} s: {saved}"
