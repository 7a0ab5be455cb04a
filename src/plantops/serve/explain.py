"""Where the model looked, in the API's words."""

from __future__ import annotations

from plantops.preprocess import Preprocessing
from plantops.serve.schema import Explanation

NO_MAPS = "this model's graph has no class-activation maps; its backbone ends in another kind of layer"


def explain(heatmap: list[list[float]] | None, name: str, spec: Preprocessing) -> Explanation:
    """The ``heatmap`` of class ``name``; without one, why there is none."""
    if heatmap is None:
        return Explanation(reason=NO_MAPS)
    return Explanation(class_name=name, area=spec.fit, heatmap=heatmap)
