"""What is on record of a run or a release, as plain values: for `plantops history`, `show` and `diff`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from plantops import artifacts, detect, releases, replay
from plantops.artifacts import SPLIT_FILE
from plantops.bundle import MANIFEST
from plantops.config import PARAMS, Config
from plantops.deploy import image
from plantops.errors import SetupError
from plantops.shelf import REPORTS, Shelf
from plantops.store import DRIFTED, MISBEHAVES, Release, Run, Served, StepRow, Store


def history(store: Store, limit: int, going_on: bool) -> list[dict[str, Any]]:
    """The newest ``limit`` runs, newest first. ``steps``: seconds by name, None for a step that was skipped."""
    return [_brief(one, store.steps(one.id)) for one in store.runs(limit, going_on)]


def run(config: Config, store: Store, found: Run) -> dict[str, Any]:
    """A run with its steps, what had changed since the settled run before it, and the verdict if it was refused."""
    steps = store.steps(found.id)
    notes = [
        # A step that has no end is as its run is: it may have died in it.
        {"name": one.name, "state": one.state if one.ended else found.state, "seconds": _seconds(one), "note": one.note}
        for one in steps
    ]
    refusal = Shelf(config.models).refusal(found.id)
    return {
        **_brief(found, steps),
        "steps": notes,
        "options": {name: value for name, value in found.options.items() if name not in ("gate", "champion", "by")},
        "params": found.inputs.get(PARAMS, {}),
        "verdict": refusal or None,
    }


def release(config: Config, store: Store, found: Release) -> dict[str, Any]:
    """A release: data, commit, parameters, scores, verdict, image, who put it in service, what it replaced, and why.

    Raises SetupError when its bundle is gone.
    """
    shelf = Shelf(config.models)
    folder, facts, lineage = shelf.release(found.id), shelf.facts(found.id), shelf.lineage(found.id)
    manifest = _manifest(folder)
    (listed,) = releases.listed(config, store, [found])
    made_by, services = store.run(found.run or ""), _services(store, found.id)
    before = services[-1]["replaced"] if services else None
    inputs = lineage.get("inputs") or {}
    return {
        **listed.to_dict(),
        "folder": str(folder),
        "commit": facts.get("commit"),
        "branch": facts.get("branch"),
        "uncommitted": bool(lineage.get("diff")),
        "trigger": made_by.trigger if made_by else None,
        "by": _by(made_by) if made_by else None,
        "data": manifest.get("data", {}),
        "classes": _per_class(folder),
        "params": inputs.get(PARAMS, {}),
        "metrics": manifest.get("metrics", {}),
        "training": facts.get("training") or {},
        "verdict": facts.get("verdict"),
        "image_tag": image.tag(config, found.id) if listed.image else None,
        "services": services,
        "misbehaves": store.noted(found.id, MISBEHAVES) or None,
        "drifted": store.noted(found.id, DRIFTED) or None,
        "replaced": before,
        "changed": _changed(shelf, before, inputs) if before else [],
        "reports": _pages(config, found.id),
    }


def diff(config: Config, one: Release, other: Release) -> dict[str, Any]:
    """What differs between two releases: photos per class, parameters, scores, verdict. Raises SetupError."""
    shelf = Shelf(config.models)
    folders = [shelf.release(each.id) for each in (one, other)]
    params = [(shelf.lineage(each.id).get("inputs") or {}).get(PARAMS) or {} for each in (one, other)]
    verdicts = [shelf.facts(each.id).get("verdict") or {} for each in (one, other)]
    return {
        "releases": [one.id, other.id],
        "classes": _photos(*(_split(folder) for folder in folders)),
        "params": _pairs(*(detect.flatten(values) for values in params)),
        "metrics": _pairs(*(_manifest(folder).get("metrics", {}) for folder in folders)),
        "verdict": _pairs(*(_told(values) for values in verdicts)),
        "commit": [shelf.facts(each.id).get("commit") for each in (one, other)],
    }


def _brief(found: Run, steps: list[StepRow]) -> dict[str, Any]:
    return {
        "id": found.id,
        "started": found.started,
        "ended": found.ended,
        "seconds": _between(found.started, found.ended),
        "trigger": found.trigger,
        "by": _by(found),
        "state": found.state,
        "release": found.release,
        "error": found.error,
        "steps": {one.name: _seconds(one) for one in steps},
    }


def _by(found: Run) -> str | None:
    """Who began it; None where that is not on record, as of a run that was read back from its release."""
    who: str | None = found.options.get("by")
    return who


def _seconds(step: StepRow) -> float | None:
    return None if step.state == "skipped" else _between(step.started, step.ended)


def _between(began: str, ended: str | None) -> float | None:
    if ended is None:
        return None
    return round((datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds(), 3)


def _services(store: Store, name: str) -> list[dict[str, Any]]:
    """When it was put in service, by what, and which release was left; newest first."""
    served: list[Served | None] = [*store.served(), None]
    return [
        {**asdict(one), "replaced": before.release if before else None}
        for one, before in pairwise(served)
        if one and one.release == name
    ]


def _changed(shelf: Shelf, before: str, inputs: dict[str, Any]) -> list[str]:
    """What its inputs have that those of the release before had not, in words."""
    old = shelf.lineage(before).get("inputs") or {}
    if not (old and inputs):
        return []
    return [f"{one.file}: {one.what}" for one in detect.changes(detect.given(old), detect.given(inputs))]


def _pages(config: Config, name: str) -> dict[str, str]:
    """What is to be read about a release: its reports, and what it answered otherwise before it had traffic."""
    reports = {path.stem: str(path) for path in sorted((Shelf(config.models).release(name) / REPORTS).glob("*.*"))}
    asked_again = replay.page(config, name)
    return reports | ({"replay": str(asked_again)} if asked_again.is_file() else {})


def _split(folder: Path) -> dict[str, tuple[str, str]]:
    """md5: (class, split) of the photos of a release. Raises SetupError."""
    if not (folder / SPLIT_FILE).is_file():
        raise SetupError(f"{folder / SPLIT_FILE} is missing", "plantops releases lists those that are there")
    return {row["md5"]: (row["class"], row["split"]) for row in artifacts.rows(folder / SPLIT_FILE)}


def _per_class(folder: Path) -> dict[str, int]:
    return dict(sorted(Counter(name for name, _ in _split(folder).values()).items()))


def _photos(old: dict[str, tuple[str, str]], new: dict[str, tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """Of each class: how many photos each has, which came, went, changed class or split; by what they hold."""
    names = sorted({name for one in (old, new) for name, _ in one.values()})
    return {name: _of_class(name, old, new) for name in names}


def _of_class(name: str, old: dict[str, tuple[str, str]], new: dict[str, tuple[str, str]]) -> dict[str, Any]:
    before = {md5 for md5, (one, _) in old.items() if one == name}
    after = {md5 for md5, (one, _) in new.items() if one == name}
    return {
        "photos": [len(before), len(after)],
        "added": len(after - before),
        "removed": len(before - after),
        "other_split": sum(old[md5][1] != new[md5][1] for md5 in before & after),
    }


def _pairs(old: dict[str, Any], new: dict[str, Any]) -> dict[str, list[Any]]:
    """Key: [value of the one, of the other], where they differ; None where one has no such key."""
    keys = sorted(old.keys() | new.keys())
    return {key: [old.get(key), new.get(key)] for key in keys if old.get(key) != new.get(key)}


def _told(verdict: dict[str, Any]) -> dict[str, Any]:
    """The outcome, and the value of each rule that has one."""
    values = {one["rule"]: one["value"] for one in verdict.get("findings", []) if one.get("value") is not None}
    return {"outcome": verdict.get("outcome"), "against": verdict.get("against"), **values}


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise SetupError(
            f"the bundle of {folder.name} is gone", "plantops releases lists those that are there"
        ) from None
    except (OSError, ValueError) as error:
        raise SetupError(f"{folder / MANIFEST} cannot be read: {error}", "plantops doctor") from None
