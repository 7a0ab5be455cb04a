"""What a person must know beside the scores, in sentences with numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plantops.ml.changed import TITLES
from plantops.ml.stage import plain

_NAMED = 3  # copies
FEW = 10  # photos of a class under which its scores say little
_FALL = 0.05  # of accuracy, worth a word


def of(metrics: Mapping[str, Any]) -> list[str]:
    """The remarks on ``metrics`` as in metrics/evaluation.json, the weightiest first."""
    rules = (
        _drawn, _eight_bits, _field, _repeats, _went_on, _background, _attention, _changed, _confidence, _strange, _few,
    )  # fmt: skip
    return [sentence for rule in rules for sentence in rule(metrics)]


def share(value: float) -> str:
    """0.934 as ``93.4 %``."""
    return f"{100 * value:.1f} %"


def audit(metrics: Mapping[str, Any]) -> str:
    """What belongs beside every accuracy, also where it is harmless: background alone, and where the model looks."""
    said = (
        f"by eight background pixels alone {metrics['background_accuracy']:.3f}, by guessing "
        f"{metrics['background_guess']:.3f}"
    )
    if metrics.get("on_leaf") is None:
        return f"{said}; where the model looks cannot be told"
    on, area = share(metrics["on_leaf"]), share(metrics["leaf_area"])
    return f"{said}; {on} of what speaks for its answers lies on the leaf, which covers {area} of the photo"


def _drawn(metrics: Mapping[str, Any]) -> Iterator[str]:
    if metrics["sample_data"]:
        yield "These are drawn sample leaves, no photos: the numbers say nothing about plants."


def _eight_bits(metrics: Mapping[str, Any]) -> Iterator[str]:
    if metrics.get("eight_bits"):
        more = "; the other seeds were asked as checkpoints" if metrics.get("repeats") else ""
        yield f"All numbers are those of the graph in eight bits that serves, not of the checkpoint{more}."


def _field(metrics: Mapping[str, Any]) -> Iterator[str]:
    field = metrics.get("field")
    if field is None:
        yield (
            "There are no field photos (data/field/<Class>/): how the model does outside of its own data set is not "
            "known. Models that were right on 99 % of PlantVillage fell to a third on photos from elsewhere."
        )
        return
    if field["left_out"]:
        yield (
            f"{field['left_out']:,} files in data/field were left out: no photos, or of classes unknown to the model."
        )
    if copies := field.get("copies"):
        named = [f"{plain(one['path'])} ({plain(one['of']) or 'learned from once'})" for one in copies[:_NAMED]]
        more = f" and {len(copies) - _NAMED:,} more" if len(copies) > _NAMED else ""
        yield (
            f"{len(copies):,} field photos are, or show the same as, photos of the data set, and were not counted: "
            f"{', '.join(named)}{more}."
        )
    if field.get("accuracy") is not None and field["accuracy"] < metrics["accuracy"] - _FALL:
        yield (
            f"In the field it is right on {share(field['accuracy'])} of {field['photos']:,} photos, against "
            f"{share(metrics['accuracy'])} on test photos: the data set is easier than the world."
        )


def _repeats(metrics: Mapping[str, Any]) -> Iterator[str]:
    if told := metrics.get("repeats"):
        accuracy, f1 = told["accuracy"], told["macro_f1"]
        alike = "from the same release on, " if metrics.get("started_from") else ""
        yield (
            f"Trained {len(told['seeds'])} times, {alike}with other seeds, it is right on {share(accuracy['mean'])} of "
            f"the test photos ± {share(accuracy['std'])} ({share(accuracy['low'])} to {share(accuracy['high'])}), "
            f"macro-F1 {f1['mean']:.3f} ± {f1['std']:.3f} ({f1['low']:.3f} to {f1['high']:.3f}): two models no further "
            f"apart may differ by chance alone. This one is of seed {told['seeds'][0]}, chosen before, not the best."
        )


def _went_on(metrics: Mapping[str, Any]) -> Iterator[str]:
    if metrics.get("started_from"):
        left_out = metrics["left_out"]
        yield f"Its training went on from release {metrics['started_from']}." + (
            f" {left_out:,} photos held out now were not asked about: that one had learned from them or their like."
            if left_out
            else " None of the photos held out now was among those that that one learned from."
        )


def _background(metrics: Mapping[str, Any]) -> Iterator[str]:
    if metrics["background_tells"]:
        yield (
            f"The background gives the class away: eight pixels at the photo's edge are enough to name "
            f"{share(metrics['background_accuracy'])} of the test photos (guessing: "
            f"{share(metrics['background_guess'])}). High scores here may be scores for recognising the background."
        )


def _attention(metrics: Mapping[str, Any]) -> Iterator[str]:
    if metrics.get("on_leaf") is not None and looks_past(metrics):
        yield (
            f"{share(metrics['on_leaf'])} of what speaks for the answer lies on the leaf, which covers "
            f"{share(metrics['leaf_area'])} of the photo: the model looks at the leaf no more than at the rest."
        )


def looks_past(metrics: Mapping[str, Any]) -> bool:
    """Whether the model looks at the leaf no more than it would by looking anywhere."""
    return bool(metrics["on_leaf"] < metrics["leaf_area"] + 0.02)


def _changed(metrics: Mapping[str, Any]) -> Iterator[str]:
    changed = metrics["robustness"]
    falls = {name: value for name, value in changed.items() if value < changed["as_it_is"] - _FALL}
    if falls:
        told = ", ".join(
            f"{TITLES[name]} {share(value)}" for name, value in sorted(falls.items(), key=lambda one: one[1])
        )
        yield f"Photos that come otherwise are answered worse (as they are: {share(changed['as_it_is'])}): {told}."


def _confidence(metrics: Mapping[str, Any]) -> Iterator[str]:
    if not metrics["fitted"]:
        yield (
            "The stated confidence is as the network says it: no mistake on validation photos was there to fit it to."
        )
    if metrics.get("unsure") is None:
        yield (
            f"No confidence was found at which answers reach {share(metrics['target_accuracy'])} on validation "
            "photos: the model never says that it is unsure."
        )


def _strange(metrics: Mapping[str, Any]) -> Iterator[str]:
    if metrics.get("unlike") is None:
        yield "The model cannot tell photos that look like nothing it learned from (no embedding, or too few photos)."


def _few(metrics: Mapping[str, Any]) -> Iterator[str]:
    few = [f"{plain(name)} ({one['support']})" for name, one in metrics["per_class"].items() if one["support"] < FEW]
    if few:
        more = f" and {len(few) - 10} more" if len(few) > 10 else ""
        yield f"Fewer than {FEW} test photos, so their scores say little: {', '.join(few[:10])}{more}."
