"""Brings the candidate's and the champion's answers before the gate."""

from __future__ import annotations

import tempfile
from pathlib import Path

from plantops import artifacts, dvc, gate, process
from plantops.bundle import BadBundle, Bundle
from plantops.config import Config
from plantops.errors import StepFailed
from plantops.shelf import SPLIT_FILE, Shelf
from plantops.store import Release, Store

_LEARNED = ("train", "val")


def verdict(config: Config, store: Store, shelf: Shelf, bundle: Bundle, force: bool) -> gate.Verdict:
    """Judge the candidate by the gate's rules; a withdrawn model is not accepted again unless forced."""
    answers = _answers(config.root / artifacts.PREDICTIONS)
    known, current = store.with_digest(bundle.digest), store.in_service()
    if known and known.withdrawn and not force:
        said = f"this is {known.id}, withdrawn at {known.withdrawn}; plantops rollback {known.id} brings it back"
        return gate.Verdict((gate.Finding("withdrawn", gate.FAILED, said),))
    champion, more = None, []
    if current and current.digest != bundle.digest:
        try:
            champion = _champion(config, shelf, current, bundle, answers)
        except (BadBundle, StepFailed) as error:
            said = f"{current.id} could not be asked: {error}"
            if not force:  # a model that was not compared is not let through
                raise StepFailed(f"the release in service, {said}", "plantops run, or --force to go without") from None
            more.append(gate.Finding("against the release in service", gate.NOT_JUDGED, said))
    judged = gate.judge(answers, bundle.manifest.sample_data, champion, config.gate)
    return gate.Verdict((*judged.findings, *more))


def wandered(config: Config, store: Store, shelf: Shelf) -> dict[str, str]:
    """Photos that are in another split than for the release in service: path -> ``train → test``.

    A group that grows or is repaired takes its photos along; the gate leaves out what the champion learned from.
    """
    current = store.in_service()
    if current is None:
        return {}
    split_list = shelf.release(current.id) / SPLIT_FILE
    if not split_list.is_file():
        return {}
    before = {row["md5"]: row["split"] for row in artifacts.rows(split_list)}
    now = artifacts.rows(config.root / artifacts.INDEX)
    return {
        row["path"]: f"{before[row['md5']]} → {row['split']}"
        for row in now
        if before.get(row["md5"], row["split"]) != row["split"]
    }


def summary(verdict: gate.Verdict) -> str:
    """The main numbers, in one line."""
    main = [one for one in verdict.findings if one.rule in ("accuracy", "macro_f1") and one.value is not None]
    against = [one.sentence for one in verdict.findings if one.rule.startswith("accuracy against")]
    return ", ".join([*(f"{one.rule} {one.value:.3f} (at least {one.threshold:.2f})" for one in main), *against])


def _champion(
    config: Config, shelf: Shelf, current: Release, bundle: Bundle, answers: list[gate.Answer]
) -> gate.Champion:
    """The release in service with its answers on the candidate's test photos that it did not learn from either.

    Nor from others of their group: the two may have been trained with another ``split.group_by``.
    """
    if current.sample_data != bundle.manifest.sample_data:
        return gate.Champion(current.id, current.sample_data, ())
    folder = shelf.release(current.id)
    learned = {row["md5"] for row in artifacts.rows(folder / SPLIT_FILE) if row["split"] in _LEARNED}
    classes = set(Bundle.load(folder).manifest.classes)
    rows = artifacts.rows(config.root / artifacts.INDEX)
    kin = {row["group"] for row in rows if row["md5"] in learned}  # it learned another photo of the same leaf
    unfair = learned | {row["md5"] for row in rows if row["group"] in kin}
    fair = {one.photo for one in answers if one.photo not in unfair and one.actual in classes}
    return gate.Champion(current.id, current.sample_data, tuple(_ask(config, folder, fair)) if fair else ())


def _ask(config: Config, folder: Path, photos: set[str]) -> list[gate.Answer]:
    """Answers of a bundle on photos given by md5, in a process of its own."""
    root = config.root
    rows = [row for row in artifacts.rows(root / artifacts.INDEX) if row["md5"] in photos]
    with tempfile.TemporaryDirectory(dir=config.state) as scratch:
        only, out = Path(scratch, "photos"), Path(scratch, "predictions.csv")
        only.write_bytes(b"\0".join(row["path"].encode(errors="surrogateescape") for row in rows))
        argv = ["python", "-m", "plantops.ml.compare", "--bundle", str(folder), "--index", str(root / artifacts.INDEX)]
        argv += ["--raw", str(dvc.raw_folder(root)), "--only", str(only), "--out", str(out)]
        process.stream(argv, root, lambda line: None)
        return _answers(out)


def _answers(path: Path) -> list[gate.Answer]:
    return [gate.Answer(row["md5"], row["actual"], row["predicted"]) for row in artifacts.rows(path)]
