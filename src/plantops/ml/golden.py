"""The golden photos: some as they came, some made so that a slip in any field of the preprocessing shows."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from plantops.photo import decode
from plantops.preprocess import FILTERS, FITS, Preprocessing

PHOTOS = 16
_ORIENTATION = 0x0112
_TRIED = 8

Answers = Callable[[NDArray[np.uint8], Preprocessing], NDArray[np.float64]]
Change = Callable[[Preprocessing], Preprocessing]


def slips(spec: Preprocessing) -> dict[str, Preprocessing]:
    """``spec`` with one field wrong at a time, by the field's name."""
    other_filter = next(name for name in FILTERS if name != spec.filter)
    other_fit = next(name for name in FITS if name != spec.fit)
    red, green, blue = spec.mean
    wide, *rest = spec.std
    return {
        "fit": replace(spec, fit=other_fit),
        "filter": replace(spec, filter=other_filter),
        "turn": replace(spec, turn=not spec.turn),
        "mean": replace(spec, mean=(red + 0.05, green, blue)),
        "std": replace(spec, std=(wide * 1.1, rest[0], rest[1])),
    }


def moves(
    answers: Answers, photos: Sequence[bytes], spec: Preprocessing, wrong: Sequence[Preprocessing]
) -> NDArray[np.float64]:
    """How far a probability moves when each photo is read as each of ``wrong`` says, not ``spec``: (wrong, photos)."""
    right = answers(_stack(photos, spec), spec)
    return np.stack([np.abs(answers(_stack(photos, one), one) - right).max(1) for one in wrong])


def make(originals: Sequence[bytes], spec: Preprocessing, answers: Answers) -> list[tuple[str, bytes]]:
    """16 photos (fewer when there are few originals) as (ending, bytes).

    The made ones are two halves of different photos: nothing a model is sure of, so that small differences show.
    Of several such, the one is taken whose answer moves most when the field it is meant for is wrong.
    """
    wrong = slips(spec)
    made = []
    for ending, draw, field in (
        ("jpg", _turned_right, "turn"), ("jpg", _turned_over, "turn"), ("jpg", _wide, "filter"), ("png", _clear, "fit"),
    ):  # fmt: skip
        candidates = [draw(left, right) for left, right in _pairs(originals)]
        best = int(moves(answers, candidates, spec, [wrong[field]])[0].argmax())
        made.append((ending, candidates[best]))
    plain = [(_ending(photo), photo) for photo in originals[: PHOTOS - len(made)]]
    return plain + made


def unnoticed(photos: Sequence[bytes], spec: Preprocessing, answers: Answers, least: float) -> list[str]:
    """The fields whose slip moves no answer on ``photos`` by more than ``least``."""
    wrong = slips(spec)
    furthest = moves(answers, photos, spec, list(wrong.values())).max(1)
    return [field for field, distance in zip(wrong, furthest, strict=True) if distance <= least]


def read_originals(folder: Path) -> list[bytes]:
    """The photos that prepare_data kept, in order."""
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def _stack(photos: Sequence[bytes], spec: Preprocessing) -> NDArray[np.uint8]:
    return np.stack([decode(photo, spec) for photo in photos])


def _pairs(originals: Sequence[bytes]) -> Iterator[tuple[Image.Image, Image.Image]]:
    images = [_open(photo) for photo in originals[:_TRIED]]
    yield from zip(images, images[1:] + images[:1], strict=True)


def _open(photo: bytes) -> Image.Image:
    return Image.open(io.BytesIO(photo)).convert("RGB")


def _ending(photo: bytes) -> str:
    name = Image.open(io.BytesIO(photo)).format or "jpeg"
    return {"jpeg": "jpg"}.get(name.lower(), name.lower())


def _halves(left: Image.Image, right: Image.Image, size: tuple[int, int]) -> Image.Image:
    """``left`` with the lower right of ``right``: no turn and no mirroring leaves it as it is."""
    image, other = left.resize(size), right.resize(size)
    box = (size[0] // 2, size[1] // 3, size[0], size[1])
    image.paste(other.crop(box), box)
    return image


def _jpeg(image: Image.Image, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    file = io.BytesIO()
    image.save(file, "JPEG", quality=92, exif=exif)
    return file.getvalue()


def _turned_right(left: Image.Image, right: Image.Image) -> bytes:
    return _jpeg(_halves(left, right, (320, 240)), 6)


def _turned_over(left: Image.Image, right: Image.Image) -> bytes:
    return _jpeg(_halves(left, right, (240, 320)), 3)


def _wide(left: Image.Image, right: Image.Image) -> bytes:
    return _jpeg(_halves(left, right, (1024, 768)))


def _clear(left: Image.Image, right: Image.Image) -> bytes:
    """A PNG, twice as wide as high, that fades out to the right."""
    image = _halves(left, right, (400, 200))
    image.putalpha(Image.linear_gradient("L").rotate(90).resize(image.size))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
