"""The hearing: evidence is collected, and the gate says its verdict."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from plantops import artifacts, gate, lock, process
from plantops.bundle import BadBundle, Bundle
from plantops.config import Config
from plantops.errors import SetupError, StepFailed
from plantops.gate import FAILED, NOT_JUDGED, Facts, Finding, Verdict
from plantops.judgement import fair
from plantops.shelf import Shelf
from plantops.store import Release, Store


def verdict(config: Config, store: Store, shelf: Shelf, bundle: Bundle, force: bool) -> Verdict:
    """Judge the candidate by the gate's rules; a withdrawn model is not accepted again unless forced."""
    if not force and (gone := _withdrawn(store, bundle)):
        return Verdict(gone)
    current = store.in_service()
    rival = current if current and current.digest != bundle.digest else None
    return _heard(config, shelf, bundle, rival, force)


def alone(config: Config, store: Store, against: str | None) -> Verdict:
    """Judge the newest candidate against the release in service, or the one named. Changes nothing.

    Raises SetupError when there is no candidate or no such release, Busy while a run is making one.
    """
    shelf = Shelf(config.models)
    if not shelf.candidate.is_dir():
        raise SetupError(f"there is no candidate in {shelf.candidate}", "plantops run")
    rival = store.release(against) if against else store.in_service()
    if against and rival is None:
        raise SetupError(f"no release, or more than one, begins with {against}", "plantops releases")
    with lock.hold(config.state):
        try:
            bundle = Bundle.load(shelf.candidate)
        except BadBundle as error:
            raise StepFailed(f"the candidate is not whole: {error}", "plantops run --force") from None
        itself = rival is not None and rival.digest == bundle.digest
        heard = _heard(config, shelf, bundle, None if itself else rival, force=False)
        more = [*_withdrawn(store, bundle)]
        if rival and itself:
            said = f"the candidate is {rival.id} itself: plantops gate --against RELEASE compares it with another one"
            more.append(Finding("against the release in service", NOT_JUDGED, said))
        return _with(heard, *more)


def _withdrawn(store: Store, bundle: Bundle) -> tuple[Finding, ...]:
    """That a run would not take the model up again, where it was rolled back."""
    known = store.with_digest(bundle.digest)
    if not (known and known.withdrawn):
        return ()
    said = f"this is {known.id}, withdrawn at {known.withdrawn}; plantops rollback {known.id} brings it back"
    return (Finding("withdrawn", FAILED, said, binding=True),)


def _heard(config: Config, shelf: Shelf, bundle: Bundle, rival: Release | None, force: bool) -> Verdict:
    _of_one_model(config, bundle)
    answers = fair.given(config, config.root / artifacts.PREDICTIONS)
    champion, more = None, []
    if rival:
        try:
            champion = fair.champion(config, shelf, rival, bundle, answers)
        except (BadBundle, StepFailed) as error:
            said = f"{rival.id} could not be asked: {error}"
            if not force:  # a model that was not compared is not let through
                raise StepFailed(said, "plantops run, or plantops run --force to go without it") from None
            more.append(Finding("against the release in service", NOT_JUDGED, said))
    folder = shelf.release(champion.release) if champion and champion.answers else None
    known = facts(config, bundle, folder)
    heard = gate.judge(answers, bundle.manifest.sample_data, champion, config.gate, known)
    return _with(heard, *more, *_chance(config))


def _of_one_model(config: Config, bundle: Bundle) -> None:
    """Raise StepFailed where the candidate was exported before the evaluation that lies beside it."""
    told = artifacts.values(config.root / artifacts.EVALUATION)
    if other := [key for key, value in bundle.manifest.metrics.items() if told.get(key) != value]:
        said = f"{artifacts.EVALUATION} is not of the candidate: its {other[0]} is {told.get(other[0])}"
        raise StepFailed(f"{said}, in the candidate {bundle.manifest.metrics[other[0]]}", "dvc repro")


def _chance(config: Config) -> list[Finding]:
    """How far scores differ by the seed alone, where ``evaluate.repeats`` had it measured: told, and judges nothing."""
    told = artifacts.values(config.root / artifacts.EVALUATION).get("repeats")
    if not told:
        return []
    between = [f"{name} from {told[key]['low']:.3f} to {told[key]['high']:.3f} (± {told[key]['std']:.3f})"
               for key, name in (("accuracy", "accuracy"), ("macro_f1", "macro-F1"))]  # fmt: skip
    said = f"{len(told['seeds'])} trainings that differ by their seed reach {' and '.join(between)} on the test photos"
    return [Finding("spread over seeds", NOT_JUDGED, said)]


def _with(heard: Verdict, *more: Finding) -> Verdict:
    return Verdict((*heard.findings, *more), heard.lenient, heard.against, heard.rules)


def facts(config: Config, bundle: Bundle, champion: Path | None) -> Facts:
    """What the gate wants to know beside the answers; times are taken now, beside those of the ``champion``."""
    metrics = artifacts.values(config.root / artifacts.EVALUATION)
    field: dict[str, Any] = metrics["field"] if isinstance(metrics.get("field"), dict) else {}
    ours, theirs = _times(config, [bundle.path, *([champion] if champion else [])])
    return Facts(
        classes=bundle.manifest.classes,
        ece=metrics.get("ece"),
        size_mb=bundle.model.stat().st_size / 1e6,
        latency_ms=ours,
        champion_latency_ms=theirs,
        field_photos=field.get("photos"),
        field_accuracy=field.get("accuracy", metrics.get("field_accuracy")),
        field_macro_f1=field.get("macro_f1"),
    )


def _times(config: Config, folders: list[Path]) -> tuple[float, float | None]:
    """Milliseconds for one photo, of the candidate and of the champion where there is one."""
    with tempfile.TemporaryDirectory(dir=config.state) as scratch:
        out = Path(scratch, "latency.json")
        argv = ["python", "-m", "plantops.ml.latency", "--out", str(out)]
        process.stream([*argv, *(str(one) for one in folders)], config.root, lambda line: None)
        found: list[float] = json.loads(out.read_text(encoding="utf-8"))["ms"]
    return found[0], found[1] if len(found) > 1 else None


def summary(verdict: Verdict) -> str:
    """The main numbers, in one line."""
    main = [one for one in verdict.findings if one.rule in ("accuracy", "macro_f1") and one.value is not None]
    against = [one.sentence for one in verdict.findings if one.rule.startswith("accuracy against")]
    return ", ".join([*(f"{one.rule} {one.value:.3f} (at least {one.threshold:.2f})" for one in main), *against])
