"""Pictures that are no two alike, drawn by Pillow; and a look at a project."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from plantops import look
from plantops.config import load
from plantops.look import Look
from plantops.store import Store

RAW = Path("data/raw/PlantVillage")
ONE, OTHER = "Potato___Early_blight", "Tomato (x)___healthy"


def scene(seed: int, size: int = 96) -> Image.Image:
    """A smooth picture of its own for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def fill(raw: Path, count: int = 8) -> None:
    """Two classes of ``count`` photos each."""
    for first, name in ((0, ONE), (1000, OTHER)):
        (raw / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            scene(first + number).save(raw / name / f"{number}.jpg", quality=92)


def seen(project: Path) -> Look:
    """A look at it, as it would be kept for the next."""
    with Store(project / ".plantops") as store:
        return look.at(load(project), store)


def found(project: Path) -> dict[str, set[str]]:
    """rule: the photos it is about; without the class that is too small, as all are here."""
    return {
        one.rule: {path for case in one.cases for path in case.paths}
        for one in seen(project).findings
        if one.rule != "small_class"
    }
