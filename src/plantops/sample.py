"""Sample leaves: a small, drawn data set for trying plantops without photos. Plainly marked, never mixed with photos.

The marks of a class can be seen, and a network learns them in a minute; the mean colour alone tells little.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from plantops import leaf
from plantops.errors import SetupError
from plantops.photo import is_drawn

MARKER = "DRAWN_SAMPLES.txt"
_MARKER_TEXT = (
    "The leaves in this folder were drawn by `plantops sample`; they are no photos. "
    "A model trained on them knows nothing about real plants.\n"
)
_VERSION = 1  # part of every file's name: another drawing is another data set
_SHOTS = 4
_PART = ".part"

# Class, the series in its file names, its marks.
CLASSES = (
    ("Tomato___healthy", "Drawn_HL", leaf.healthy),
    ("Tomato___Early_blight", "Drawn_Erly.B", leaf.early_blight),
    ("Potato___Late_blight", "Drawn_LB", leaf.late_blight),
    ("Pepper,_bell___Bacterial_spot", "Drawn_Bact.S", leaf.bacterial_spot),
    ("Corn_(maize)___Common_rust_", "Drawn_Rust", leaf.common_rust),
    ("Tomato___Tomato_mosaic_virus", "Drawn_Mosaic", leaf.mosaic),
    ("Squash___Powdery_mildew", "Drawn_PM", leaf.mildew),
)


def draw(folder: Path, classes: int = 6, per_class: int = 60, seed: int = 1) -> dict[str, int]:
    """Draw ``per_class`` pictures of each of the first ``classes`` classes into folders of ``folder``.

    256 x 256 JPEG, four to a leaf, the same bytes for the same arguments. What an earlier call has drawn is left
    as it is and only what is missing is added. Returns for each class how many were drawn now (all 0: nothing
    was missing). Raises SetupError when ``folder`` holds anything else: drawn and real are never mixed.
    """
    _check_numbers(classes, per_class)
    wanted = {CLASSES[n][0]: _names(n, per_class, seed) for n in range(classes)}
    _refuse_others(folder, wanted)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / MARKER, _MARKER_TEXT.encode())
    return {CLASSES[n][0]: _draw_class(folder, n, wanted[CLASSES[n][0]], seed) for n in range(classes)}


def _check_numbers(classes: int, per_class: int) -> None:
    if not 2 <= classes <= len(CLASSES):
        raise SetupError(f"{classes} classes: `plantops sample` draws 2 to {len(CLASSES)}")
    if not 1 <= per_class <= 4000:
        raise SetupError(f"{per_class} pictures a class: `plantops sample` draws 1 to 4,000")


def _names(number: int, per_class: int, seed: int) -> list[str]:
    """File names as PlantVillage has them: `<uuid>___<series> <shot>.JPG`, a hundred shot numbers for each leaf."""
    random = np.random.default_rng([_VERSION, seed, number])
    return [
        f"{uuid.UUID(bytes=random.bytes(16), version=4)}___{CLASSES[number][1]} "
        f"{(photo // _SHOTS + 1) * 100 + photo % _SHOTS + 1}.JPG"
        for photo in range(per_class)
    ]


def _draw_class(folder: Path, number: int, names: list[str], seed: int) -> int:
    target = folder / CLASSES[number][0]
    target.mkdir(exist_ok=True)
    drawn = 0
    for first in range(0, len(names), _SHOTS):
        shots = names[first : first + _SHOTS]
        if all((target / name).exists() for name in shots):
            continue
        for name, picture in zip(shots, _photos(number, first // _SHOTS, seed), strict=False):
            drawn += _write(target / name, picture)
    return drawn


def _photos(number: int, plant: int, seed: int) -> Iterator[bytes]:
    """The photos of one leaf. Each leaf has random numbers of its own, so more leaves do not change the first."""
    random = np.random.default_rng([_VERSION, seed, number, plant])
    grown = leaf.grow(random, CLASSES[number][2])
    for _ in range(_SHOTS):
        yield leaf.photograph(grown, random)


def _write(path: Path, data: bytes) -> bool:
    """Write ``path`` whole or not at all; says whether it was missing."""
    if path.exists():
        return False
    part = path.with_name(path.name + _PART)
    part.write_bytes(data)
    os.replace(part, path)
    return True


def _refuse_others(folder: Path, wanted: dict[str, list[str]]) -> None:
    """Raise SetupError when ``folder`` holds something that this very sample does not."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise SetupError(f"{folder} is no folder", "plantops sample DIR with another DIR")
    for found in sorted(folder.iterdir()):
        if found.is_dir():
            _refuse_foreign_class(found, set(wanted.get(found.name, ())))
        elif found.name.removesuffix(_PART) != MARKER and found.suffix != ".dvc" and not found.name.startswith(".git"):
            raise _foreign(found)


def _refuse_foreign_class(found: Path, names: set[str]) -> None:
    for file in sorted(found.iterdir()):
        if file.name.removesuffix(_PART) in names and (file.suffix == _PART or _drawn(file)):
            continue
        raise _another(found) if _drawn(file) else _foreign(file)
    if not names:
        raise _foreign(found)


def _drawn(file: Path) -> bool:
    try:
        with Image.open(file) as image:
            return is_drawn(image)
    except (OSError, UnidentifiedImageError):
        return False


def _foreign(found: Path) -> SetupError:
    return SetupError(
        f"{found} was not drawn by `plantops sample`, and drawn leaves are never mixed with others",
        "plantops sample DIR with an empty DIR",
    )


def _another(found: Path) -> SetupError:
    return SetupError(
        f"{found} holds another sample (other classes, number or seed)",
        f"remove {found.parent} first, or plantops sample DIR with an empty DIR",
    )
