"""reports/model_card.md: what the model is, what it is for, and how good it is (Mitchell et al. 2019)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from plantops.ml.files import fresh_file
from plantops.ml.model import Info
from plantops.ml.prepared import Prepared
from plantops.ml.remarks import share
from plantops.ml.stage import plain


def write(path: Path, metrics: Mapping[str, Any], info: Info, prepared: Prepared) -> None:
    """Write the card from the same numbers as the page."""
    fresh_file(path).write_text("\n".join(_lines(metrics, info, prepared)) + "\n", encoding="utf-8")


def _lines(metrics: Mapping[str, Any], info: Info, prepared: Prepared) -> Iterator[str]:
    sides = Counter(photo.split for photo in prepared.photos)
    size, what = info.preprocessing.size, "drawn sample leaves" if info.sample_data else "photos"
    yield from ("# Model card", "", "## The model", "")
    yield f"- Says which of {len(info.classes)} classes a photo of one leaf shows."
    yield f"- {info.backbone}, {info.parameters:,} parameters, input {size} × {size} pixels, RGB."
    yield f"- Learned from {sides['train']:,} {what}, tuned on {sides['val']:,}, judged on {sides['test']:,} others."
    yield f"- Training data digest `{info.data_digest[:12]}`."
    yield from ("", "## For what", "")
    yield "- For a first look at photos like those that it learned from. Not a diagnosis: a person decides."
    yield "- Not for plants, organs or diseases that are not among its classes: it answers one of them all the same."
    yield from ("", "## How good", "", "| | | 95 % interval |", "|---|---|---|")
    yield from _scores(metrics)
    yield from ("", "## What to know", "")
    yield from (f"- {_safe(one)}" for one in metrics["remarks"] or ["Nothing beyond the numbers."])
    yield f"- Not measured: {'' if metrics.get('repeats') else 'the spread over seeds; '}crops that it never saw."
    yield from (
        "",
        "## Classes",
        "",
        "| class | test photos | recall | interval | precision | interval | F1 |",
        "|---|--:|--:|--:|--:|--:|--:|",
    )
    for name, one in metrics["per_class"].items():
        cells = (
            _safe(plain(name)),
            one["support"],
            _number(one["recall"]),
            _interval(one, "recall"),
            _number(one["precision"]),
            _interval(one, "precision"),
            _number(one["f1"]),
        )
        yield "| " + " | ".join(map(str, cells)) + " |"


def _scores(metrics: Mapping[str, Any]) -> Iterator[str]:
    field = metrics.get("field") or {}
    if field.get("photos"):
        yield _row(f"accuracy on {field['photos']:,} field photos", field, "accuracy")
        yield from _health(field, " in the field")
    yield _row(f"accuracy on {metrics['photos']:,} test photos", metrics, "accuracy")
    guess = share(metrics["background_guess"])
    yield f"| from eight background pixels alone (guessing: {guess}) | {metrics['background_accuracy']:.3f} | |"
    if metrics.get("on_leaf") is not None:
        yield f"| activation on the leaf (which covers {share(metrics['leaf_area'])}) | {metrics['on_leaf']:.3f} | |"
    for key, title in (("macro_f1", "macro-F1"), ("balanced_accuracy", "balanced accuracy"),
                       ("ece", "calibration error (ECE)"), ("brier", "Brier score")):  # fmt: skip
        yield f"| {title} | {metrics[key]:.3f} | |"
    if told := metrics.get("repeats"):
        for key, title in (("accuracy", "accuracy"), ("macro_f1", "macro-F1")):
            around = f"{told[key]['mean']:.3f} ± {told[key]['std']:.3f}"
            yield f"| {title} over {len(told['seeds'])} seeds, ± one standard deviation | {around} | |"
    yield from _health(metrics)
    if metrics.get("unsure") and metrics.get("accuracy_when_sure") is not None:
        sure = f"accuracy when sure (confidence ≥ {metrics['unsure']:.2f}; {share(metrics['coverage'])} of photos)"
        yield f"| {sure} | {metrics['accuracy_when_sure']:.3f} | |"


def _health(of: Mapping[str, Any], where: str = "") -> Iterator[str]:
    if health := of.get("health"):
        yield _row(f"diseased leaves found{where}, of {health['diseased']:,}", health, "diseased_found")
        yield _row(f"healthy leaves let be{where}, of {health['healthy']:,}", health, "healthy_spared")


def _row(title: str, values: Mapping[str, Any], key: str) -> str:
    return f"| {title} | {values[key]:.3f} | {values[f'{key}_low']:.3f} – {values[f'{key}_high']:.3f} |"


def _interval(one: Mapping[str, Any], key: str) -> str:
    """None was measured for a class without photos, or that was never answered."""
    low, high = one[f"{key}_low"], one[f"{key}_high"]
    return "–" if low is None else f"{low:.3f} – {high:.3f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _safe(text: str) -> str:
    """Text whose characters mean nothing to Markdown or HTML."""
    for letter in "\\`*_[]|#":
        text = text.replace(letter, f"\\{letter}")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
