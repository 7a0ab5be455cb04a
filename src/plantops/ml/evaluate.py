"""evaluate: how what will serve answers photos that it did not learn from, and what it looks at."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plantops.errors import StepFailed
from plantops.ml import (
    calibration,
    card,
    drift,
    examine,
    field,
    files,
    measure,
    pictures,
    predictions,
    remarks,
    report,
    scores,
    served,
    shortcut,
    spread,
    stage,
    start,
)
from plantops.ml.examine import AS_IT_IS, STRANGE, Asked, Examiner
from plantops.ml.field import Field
from plantops.ml.files import fresh_folder, open_csv, write_json
from plantops.ml.model import Info, Model
from plantops.ml.params import Params, load
from plantops.ml.predictions import Answers
from plantops.ml.prepared import Photo, Prepared


@dataclass(frozen=True)
class Answered:
    """What was asked: test photos, photos for validation and from the field where there are any, and probes.

    ``repeats``: seed: what further trainings say of the test photos.
    """

    test: Asked
    val: Asked | None
    field: Asked | None
    probes: Mapping[str, Asked]
    repeats: Mapping[int, Answers]

    def judged(self) -> list[Asked]:
        """What ``predictions.parquet`` lists."""
        return [one for one in (self.test, self.val, self.field) if one]


def main() -> None:
    """Read data/prepared, data/field and models/checkpoint; write models/evaluation, metrics, plots and reports."""
    params, prepared, model = load(), start.held_out(), Model.load()
    if not prepared.of("test"):
        raise StepFailed(
            "there are no photos to test on: every class has a single group of photos, or split.test is 0",
            "look at split.group_by and split.test in params.yaml, or add photos of other leaves",
        )
    fresh_folder(files.EVALUATED)
    asker = examine.examiner(prepared, served.choose(params, prepared, model))
    known = field.Known(Prepared.load(), start.learned().keys())
    outside = field.read(model.info.preprocessing, model.info.classes, known)
    answered = _ask(asker, prepared, outside, params)
    metrics = _metrics(asker, params, prepared, answered, outside)
    _write(asker, answered, metrics)
    report.write(
        files.REPORT, metrics, model.info, answered.test, answered.field, len(answered.probes[AS_IT_IS].photos)
    )
    card.write(files.CARD, metrics, model.info, prepared)
    print(f"{metrics['photos']:,} test photos: accuracy {metrics['accuracy']:.3f}, macro-F1 {metrics['macro_f1']:.3f}")
    print(remarks.audit(metrics))
    for sentence in metrics["remarks"]:
        print(sentence)


def _ask(asker: Examiner, prepared: Prepared, outside: Field | None, params: Params) -> Answered:
    def ask(split: str) -> Asked | None:
        photos = prepared.of(split)
        return asker.ask(photos, examine.pixels(prepared, photos)) if photos else None

    test = ask("test")
    assert test, "main looks for test photos"
    abroad = asker.ask(outside.photos, outside.pixels) if outside and outside.photos else None
    return Answered(test, ask("val"), abroad, examine.probe(asker, test), spread.ask(params, test))


def _metrics(
    asker: Examiner, params: Params, prepared: Prepared, answered: Answered, outside: Field | None
) -> dict[str, Any]:
    """All numbers, flat ones first, and remarks on them."""
    classes, test, wanted = asker.model.info.classes, answered.test, params.evaluate
    matrix = scores.confusion(test.actual, test.predicted, len(classes))
    unsure, unlike = examine.thresholds(wanted, answered.val)
    found = {
        **measure.quality(test.probabilities, test.actual, classes),
        **spread.told(params.seed, test, answered.repeats),
        **_went_on(asker.model.info, prepared),
        "eight_bits": True if files.EIGHT_BITS.is_file() else None,
        "ece_before": _ece_before(test),
        "temperature": asker.temperature,
        "fitted": asker.fitted,
        "target_accuracy": wanted.target_accuracy,
        "unsure": unsure,
        **measure.abstention(test.confidence, test.right, unsure),
        "unlike": unlike,
        **_shortcuts(prepared, test),
        "field_accuracy": float(answered.field.right.mean()) if answered.field else None,
        "field": _field(answered.field, outside, classes, unsure) if outside else None,
        "health": measure.health(matrix, classes),
        "robustness": {name: _accuracy(one) for name, one in answered.probes.items() if name != STRANGE},
        "strange": _strange(test, answered.probes[STRANGE], unlike),
        "confusions": measure.confusions(matrix, classes),
        "per_class": measure.per_class(matrix, classes),
        "sample_data": asker.model.info.sample_data,
        "data_digest": prepared.meta.digest,
    }
    values: dict[str, Any] = measure.rounded({key: value for key, value in found.items() if value is not None})
    return {**values, "remarks": remarks.of(values)}


def _went_on(info: Info, prepared: Prepared) -> dict[str, Any]:
    """The release that the training went on from, and how many held-out photos it had learned from, where it did."""
    if not info.started_from:
        return {}
    return {"started_from": info.started_from, "left_out": prepared.meta.count - len(prepared.photos)}


def _ece_before(test: Asked) -> float:
    """The calibration error with the confidence as the network says it, temperature 1."""
    return calibration.ece(scores.softmax(test.seen.logits).max(1), test.right)


def _accuracy(asked: Asked) -> float:
    return float(asked.right.mean())


def _shortcuts(prepared: Prepared, test: Asked) -> dict[str, Any]:
    train = prepared.of("train")
    edges = shortcut.edge(examine.pixels(prepared, train)), prepared.labels(train)
    told = shortcut.background(edges, (shortcut.edge(test.pixels), test.actual))
    looked = None if test.seen.activation is None else shortcut.attention(test.pixels, test.seen.activation)
    return {
        "background_accuracy": told.accuracy,
        "background_guess": told.guess,
        "background_tells": told.tells,
        "on_leaf": looked.on_leaf if looked else None,
        "leaf_area": looked.leaf_area if looked else None,
        "leaf_photos": looked.photos if looked else None,
    }


def _field(asked: Asked | None, outside: Field, classes: Sequence[str], unsure: float | None) -> dict[str, Any]:
    copies = [{"path": path, "of": of} for path, of in sorted(outside.copies.items())]
    told: dict[str, Any] = {"photos": 0, "left_out": len(outside.set_aside), "copies": copies}
    if asked is None:
        return told
    matrix = scores.confusion(asked.actual, asked.predicted, len(classes))
    named = {name: one for name, one in measure.per_class(matrix, classes).items() if one["support"]}
    quality = measure.quality(asked.probabilities, asked.actual, classes)
    sure = measure.abstention(asked.confidence, asked.right, unsure)
    health = measure.health(matrix, classes)
    views = {"health": health} if health else {}
    return {**told, **quality, **sure, **views, "confusions": measure.confusions(matrix, classes), "per_class": named}


def _strange(test: Asked, made: Asked, unlike: float | None) -> dict[str, Any]:
    """How well pictures that are no leaves are told from test photos, by confidence and by distance."""
    kinds = np.array([photo.path.partition("/")[0] for photo in made.photos])

    def by_kind(values: np.ndarray[Any, Any]) -> dict[str, Any]:
        return {kind: values[kinds == kind] for kind in dict.fromkeys(kinds.tolist())}

    told: dict[str, Any] = {"auroc_confidence": measure.separation(-test.confidence, by_kind(-made.confidence))}
    if test.distances is not None and made.distances is not None:
        told["auroc_distance"] = measure.separation(test.distances, by_kind(made.distances))
        if unlike is not None:
            told["noticed"] = float((made.distances > unlike).mean())
            told["false_alarms"] = float((test.distances > unlike).mean())
    return told


def _write(asker: Examiner, answered: Answered, metrics: dict[str, Any]) -> None:
    """Answers, reference, plots and metrics."""
    classes, test = asker.model.info.classes, answered.test
    if asker.known is not None and "unlike" in metrics:
        usual = drift.learn(examine.held([one for one in (answered.test, answered.val) if one], len(classes)))
        asker.known.write(files.REFERENCE, usual.arrays() if usual else {})
    predictions.write(files.PREDICTIONS, classes, [one.answers() for one in answered.judged()])
    probed = [one.answers(name) for name, one in answered.probes.items()]
    predictions.write(files.PROBED, classes, [*probed, *answered.repeats.values()])
    _write_confusion(files.CONFUSION, test.photos, [classes[number] for number in test.predicted])
    matrix = scores.confusion(test.actual, test.predicted, len(classes))
    pictures.draw_confusion(files.CONFUSION_PICTURE, matrix, classes)
    f1 = {name: one["f1"] for name, one in metrics["per_class"].items() if one["f1"] is not None}
    pictures.draw_curves(files.CURVES_PICTURE, test.confidence, test.right, f1)
    write_json(files.EVALUATION, metrics)


def _write_confusion(path: Path, photos: Sequence[Photo], predicted: Sequence[str]) -> None:
    with open_csv(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(["actual", "predicted"])
        writer.writerows([photo.label, answer] for photo, answer in zip(photos, predicted, strict=True))


if __name__ == "__main__":
    stage.run(main)
