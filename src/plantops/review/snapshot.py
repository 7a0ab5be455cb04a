"""What the working tree, a release or a git revision holds: photos, parameters, scores. Reads, and moves nothing."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plantops import artifacts, detect, dvc, git, process, remote
from plantops.config import LOCK, PARAMS, PIPELINE, Config
from plantops.errors import StepFailed
from plantops.shelf import Shelf
from plantops.store import Release

Read = Callable[[str], str | None]
_PATIENCE_S = 120
PLOTS = ("plots/confusion.png", "plots/curves.png")


@dataclass(frozen=True)
class Snapshot:
    """One state of a project.

    ``counts``: photos by class, as the ``.dvc`` files say. ``members``: md5 of a photo to its class, None where the
    lists of the folders are not here. ``scores`` is metrics/evaluation.json; empty where it is not to be had.
    """

    title: str
    commit: str
    counts: Mapping[str, int]
    members: Mapping[str, str] | None
    params: Mapping[str, Any]
    scores: Mapping[str, Any]
    verdict: Mapping[str, Any] | None = None
    files: tuple[Path, ...] = field(default=())

    def numbers(self) -> dict[str, float]:
        """The scores that are numbers, by name; none of single classes."""
        flat = {key: one for key, one in self.scores.items() if not isinstance(one, (dict, list))}
        field_ = self.scores.get("field")
        if isinstance(field_, dict) and field_.get("photos"):
            flat |= {f"field_{key}": field_[key] for key in ("accuracy", "macro_f1") if key in field_}
        return {key: float(v) for key, v in flat.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}

    def per_class(self) -> dict[str, dict[str, Any]]:
        """Recall, precision and the rest by class; empty where they are not on record."""
        found = self.scores.get("per_class")
        return found if isinstance(found, dict) else {}


def of_tree(config: Config, verdict: Mapping[str, Any] | None) -> Snapshot:
    """What lies in the project now. Raises SetupError outside a git repository."""
    root, state = config.root, git.state(config.root)
    inputs = dvc.inputs(root)
    files = [root / name for name in PLOTS] + sorted((root / artifacts.REPORTS).glob("*.*"))
    counts, members = _photos(inputs, dvc.raw_folder(root).relative_to(root).as_posix(), remote.cache(root))
    return Snapshot(
        f"the working tree at {state.short}", state.commit, counts, members, _params(inputs),
        _scores(lambda name: _text(root / name)), verdict, tuple(one for one in files if one.is_file()),
    )  # fmt: skip


def of_release(config: Config, release: Release) -> Snapshot:
    """What a release was made of, by its lineage; its scores by DVC's cache, else the main ones by its manifest."""
    shelf, cache = Shelf(config.models), remote.cache(config.root)
    lineage, facts = shelf.lineage(release.id), shelf.facts(release.id)
    inputs, lock = lineage.get("inputs") or {}, dvc.parsed(str(lineage.get("dvc_lock", "")))
    scores = _scores(lambda name: remote.text(cache, _md5(lock, name)))
    counts, members = _photos(inputs, _raw(inputs), cache)
    return Snapshot(
        f"release {release.id}", str(facts.get("commit", "")), counts, members, _params(inputs),
        scores or _manifest(shelf.release(release.id)), facts.get("verdict"),
    )  # fmt: skip


def of_revision(config: Config, name: str) -> Snapshot:
    """What a git revision holds; metrics that git does not keep by DVC's cache, else its remote.

    Raises SetupError when there is no such revision.
    """
    root, cache = config.root, remote.cache(config.root)
    revision = git.revision(root, name)
    wanted = [one for one in revision.names if one.endswith(".dvc") or one in (PIPELINE, PARAMS, LOCK)]
    inputs = {one: dvc.parsed(revision.read(one) or "") for one in wanted}

    def read(path: str) -> str | None:
        """From git, DVC's cache, or DVC's remote."""
        md5 = _md5(inputs.get(LOCK), path)
        return (
            revision.read(path) or remote.text(cache, md5) or (_fetched(root, revision.commit, path) if md5 else None)
        )

    counts, members = _photos(inputs, _raw(inputs), cache)
    title = name if revision.commit.startswith(name) else f"{name} ({revision.commit[:7]})"
    return Snapshot(title, revision.commit, counts, members, _params(inputs), _scores(read))


def _scores(read: Read) -> dict[str, Any]:
    try:
        found = json.loads(read(artifacts.EVALUATION.as_posix()) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _manifest(folder: Path) -> dict[str, Any]:
    """The flat scores that a bundle carries."""
    try:
        return dict(json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["metrics"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _params(inputs: Mapping[str, Any]) -> dict[str, Any]:
    values = inputs.get(PARAMS)
    return detect.flatten(values) if isinstance(values, dict) else {}


def _raw(inputs: Mapping[str, Any]) -> str:
    params = inputs.get(PARAMS)
    prepare = params.get("prepare") if isinstance(params, dict) else None
    return str((prepare or {}).get("raw", "")) if isinstance(prepare, dict) else ""


def _photos(inputs: Mapping[str, Any], raw: str, cache: Path) -> tuple[dict[str, int], dict[str, str] | None]:
    """Photos by class, and md5 to class where all lists are in DVC's cache. One .dvc may cover a class, or all."""
    counts: Counter[str] = Counter()
    members: dict[str, str] = {}
    known = True
    for name, value in inputs.items():
        out = _out(value) if name == f"{raw}.dvc" or Path(name).parent.as_posix() == raw else None
        if out is None:
            continue
        fixed = "" if name == f"{raw}.dvc" else Path(name).stem
        listed = remote.listing(cache, str(out.get("md5", "")))
        if listed is None:
            known = False
            counts[fixed or "all classes"] += int(out.get("nfiles") or 0)
            continue
        for md5, path in listed:
            label = fixed or path.partition("/")[0]
            counts[label] += 1
            members[md5] = label
    return dict(sorted(counts.items())), members if known else None


def _out(value: Any) -> dict[str, Any] | None:
    outs = value.get("outs") if isinstance(value, dict) else None
    return outs[0] if isinstance(outs, list) and outs and isinstance(outs[0], dict) else None


def _md5(lock: Any, path: str) -> str:
    """What a dvc.lock says of an output; empty where it names none such."""
    entries = dvc.lock_entries(lock).values()
    outs = (one for entry in entries for one in entry.get("outs") or [] if one.get("path") == path)
    return next((str(one.get("md5", "")) for one in outs), "")


def _fetched(root: Path, commit: str, path: str) -> str | None:
    """A file that DVC's remote may have: by `dvc get`, which works in a folder of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, "got")
        try:
            answer = process.capture(
                ["dvc", "get", "-q", "--rev", commit, "-o", str(target), str(root), path], root, 120
            )
        except StepFailed:
            return None
        return _text(target) if answer.ok else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None
