"""reports/evaluation.html: the evaluation for a person who knows leaves and need not know machine learning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from plantops.ml import calibration, changed, charts, gallery, page, remarks, scores, strange
from plantops.ml.examine import AS_IT_IS, Asked
from plantops.ml.files import fresh_file
from plantops.ml.model import Info
from plantops.ml.remarks import share
from plantops.ml.stage import plain

_LARGEST_MATRIX = 60  # classes


def write(path: Path, metrics: Mapping[str, Any], info: Info, test: Asked, field: Asked | None, probed: int) -> None:
    """Write the page from ``metrics`` (as in metrics/evaluation.json); pictures from the field, where there are any."""
    shown = field or test
    wrong, right = gallery.wrong(shown, info.classes), gallery.right(shown, info.classes)
    text = _template().render(
        style=Markup(page.STYLE), m=metrics, info=info, tiles=tiles(metrics), wrong=wrong, right=right,
        mistakes=int((~shown.right).sum()), shown=f"{len(shown.photos):,} {'field' if field else 'test'}",
        looked=shown.seen.activation is not None,
        views=[*([_view(metrics["field"], metrics, info, field, ", in the field")] if field else []),
               _view(metrics, metrics, info, test, ", on test photos" if field else "")],
        robustness=[(_TITLES[name], value) for name, value in metrics["robustness"].items()],
        kinds=[("all", "all of them"), *strange.TITLES.items()], probed=f"{probed:,}",
    )  # fmt: skip
    fresh_file(path).write_text(text, encoding="utf-8")


_TITLES = {AS_IT_IS: "as they are", **changed.TITLES}


def tiles(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """The score card: ``what``, ``value``, ``note``, ``kind`` (first, warn or empty); the field comes first."""
    field = metrics.get("field") or {}
    found = []
    if field.get("photos"):
        found.append(_tile("right in the field", field, "first"))
        found += _health(field, " in the field")
    found.append(_tile("right on test photos", metrics, "" if found else "first"))
    found += _audit(metrics)
    found.append(_card("every class counting alike", share(metrics["balanced_accuracy"]),
                       f"balanced accuracy; macro-F1 {metrics['macro_f1']:.3f}"))  # fmt: skip
    if told := metrics.get("repeats"):
        by_chance = f"± {share(told['accuracy']['std'])} by other seeds; macro-F1 ± {told['macro_f1']['std']:.3f}"
        found.append(_card(f"right, of {len(told['seeds'])} trainings", share(told["accuracy"]["mean"]), by_chance))
    found += _health(metrics)
    if metrics.get("unsure") and metrics.get("accuracy_when_sure") is not None:
        found.append(_card("right when it is sure", share(metrics["accuracy_when_sure"]),
                           f"it is sure of {share(metrics['coverage'])} of the photos"))  # fmt: skip
    return found


def _health(of: Mapping[str, Any], where: str = "") -> list[dict[str, str]]:
    health = of.get("health")
    if not health:
        return []
    return [
        _card(f"{what}{where}", share(health[key]), f"of {health[total]:,}; {_between(health, key)}")
        for what, key, total in (
            ("diseased leaves found", "diseased_found", "diseased"),
            ("healthy leaves let be", "healthy_spared", "healthy"),
        )
    ]


def _audit(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """What belongs beside every accuracy: what the background alone gives, and how much of the look is at the leaf."""
    tells = "warn" if metrics["background_tells"] else ""
    found = [_card("right from the background alone", share(metrics["background_accuracy"]),
                   f"eight pixels at the edge; guessing {share(metrics['background_guess'])}", tells)]  # fmt: skip
    if metrics.get("on_leaf") is not None:
        past = "warn" if remarks.looks_past(metrics) else ""
        found.append(_card("of its look is at the leaf", share(metrics["on_leaf"]),
                           f"which covers {share(metrics['leaf_area'])} of the photo", past))  # fmt: skip
    return found


def _tile(what: str, quality: Mapping[str, Any], kind: str) -> dict[str, str]:
    return _card(what, share(quality["accuracy"]), f"of {quality['photos']:,}; {_between(quality, 'accuracy')}", kind)


def _card(what: str, value: str, note: str, kind: str = "") -> dict[str, str]:
    return {"what": what, "value": value, "note": note, "kind": kind}


def _between(values: Mapping[str, Any], key: str) -> str:
    return f"{100 * values[f'{key}_low']:.1f} to {share(values[f'{key}_high'])}"


def _view(of: Mapping[str, Any], metrics: Mapping[str, Any], info: Info, asked: Asked, where: str) -> dict[str, Any]:
    """The chapters on one set of photos: test, or field. ``of``: its numbers; ``where``: what its headings end with."""
    _, answered, accuracy = calibration.coverage(asked.confidence, asked.right)
    sure = of.get("accuracy_when_sure")
    stands = (of["coverage"], sure) if metrics.get("unsure") and sure is not None else None
    counts = scores.confusion(asked.actual, asked.predicted, len(info.classes))
    drawn = len(info.classes) <= _LARGEST_MATRIX
    return {
        "of": of, "where": where, "per_class": _worst_first(of["per_class"]),
        "confusions": [(one, gallery.confused(asked, info.classes, one)) for one in of["confusions"]],
        "reliability": charts.reliability(calibration.reliability(asked.confidence, asked.right)),
        "coverage": charts.coverage(answered, accuracy, stands),
        "matrix": charts.matrix(counts, [spoken(name) for name in info.classes]) if drawn else "",
    }  # fmt: skip


def _worst_first(classes: Mapping[str, Any]) -> list[tuple[str, Any]]:
    judged = [(name, one) for name, one in classes.items() if one["support"]]
    return sorted(judged, key=lambda one: one[1]["recall"])


def spoken(name: str) -> str:
    """A class as one says it: ``Tomato___Late_blight`` is Tomato: Late blight."""
    return plain(name).replace("___", ": ").replace("_", " ")


def _template() -> jinja2.Template:
    # Names of files and classes are anybody's: everything is escaped unless it says that it is markup.
    made = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.globals |= {
        "plain": plain, "spoken": spoken, "whisker": charts.whisker,
        "percent": lambda value: "–" if value is None else share(value).replace(" ", "\u00a0"),
        "reach": lambda low, high: "–" if low is None else f"{100 * low:.0f} – {100 * high:.0f}\u00a0%",
        "number": lambda value: "–" if value is None else f"{value:.3f}",
    }  # fmt: skip
    return made.from_string(page.TEMPLATE)
