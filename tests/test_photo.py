"""Photo bytes to pixels: what comes out, for every kind of picture, and that nothing but NotAPhoto is raised."""

from __future__ import annotations

import io
import random
import struct
import warnings
from itertools import product

import numpy as np
import pytest
from PIL import Image, ImageOps

from plantops import photo
from plantops.photo import NotAPhoto, decode, footprint, open_photo
from plantops.preprocess import Preprocessing

GREY = (0.5, 0.5, 0.5)
SPEC = Preprocessing(32, "crop", "bilinear", True, GREY, GREY)
ORIENTATION, X_RESOLUTION, IMAGE_WIDTH, RESOLUTION_UNIT = 0x0112, 0x011A, 0x0100, 0x0128
CAMERA = {IMAGE_WIDTH: 90, X_RESOLUTION: 72.5, RESOLUTION_UNIT: 2, 0x010F: "Maker", 0x9003: "2025:01:01 00:00:00"}
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F")
KINDS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP")
FUZZED = 4_000


def picture(mode: str = "RGB", size: tuple[int, int] = (90, 60)) -> Image.Image:
    noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray(noise.view(np.uint16)[..., 0].copy())
    return Image.fromarray(noise) if mode == "RGBA" else Image.fromarray(noise[..., :3].copy()).convert(mode)


def written(
    image: Image.Image, kind: str, orientation: int = 1, tags: dict[int, object] | None = None, **options: object
) -> bytes:
    out, exif = io.BytesIO(), Image.Exif()
    exif.update({ORIENTATION: orientation, **(tags or {})})
    image.save(out, kind, exif=exif, **options)
    return out.getvalue()


def at_once(data: bytes, spec: Preprocessing) -> np.ndarray:
    """What `photo.py` promises, done with whole pictures and Pillow's own way of turning them."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (2 * spec.size, 2 * spec.size))
    image = ImageOps.exif_transpose(image) if spec.turn else image
    if image.mode == "I;16":
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side) if spec.fit == "crop" else None
    return np.asarray(image.resize((spec.size, spec.size), Image.Resampling[spec.filter.upper()], box))


@pytest.mark.parametrize("size", [(61, 133), (300, 200)])
@pytest.mark.parametrize("mode", MODES)
def test_pixels_are_those_of_the_whole_picture(
    mode: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photo, "_BAND", 1000)  # many bands also in a small picture
    tried = 0
    for kind, orientation in product(KINDS, (1, 3, 6)):
        try:
            data = written(picture(mode, size), kind, orientation)
        except (OSError, ValueError):
            continue  # this kind of file cannot hold that mode
        for fit, turn in (("crop", True), ("squash", False)):
            spec = Preprocessing(32, fit, "bicubic", turn, GREY, GREY)
            assert np.array_equal(decode(data, spec), at_once(data, spec)), (kind, orientation, fit, turn)
            tried += 1
    assert tried


@pytest.mark.parametrize(("mode", "colour"), [("1", 0), ("L", 7), ("P", 3), ("RGB", (1, 2, 3)), ("I;16", 9)])
def test_a_transparent_colour_becomes_white(mode: str, colour: object) -> None:
    data = written(picture(mode), "PNG", transparency=colour)
    if mode == "I;16":
        assert np.array_equal(decode(data, SPEC), decode(written(picture(mode), "PNG"), SPEC))
    else:
        assert np.array_equal(decode(data, SPEC), at_once(data, SPEC))


def exif_of_text(*tags: int) -> bytes:
    """EXIF that says "turn right", and holds text where those tags want numbers."""
    entries = [(ORIENTATION, 3, 1, struct.pack("<HH", 6, 0)), *((tag, 2, 4, b"abc\0") for tag in tags)]
    body = b"".join(struct.pack("<HHL4s", *entry) for entry in sorted(entries))
    return b"Exif\0\0II*\0" + struct.pack("<LH", 8, len(entries)) + body + bytes(4)


@pytest.mark.parametrize("tag", [X_RESOLUTION, IMAGE_WIDTH, RESOLUTION_UNIT])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_turned_photo_with_senseless_tags_is_turned(kind: str, tag: int) -> None:
    out = io.BytesIO()
    picture().save(out, kind, exif=exif_of_text(tag))
    assert np.array_equal(decode(out.getvalue(), SPEC), decode(written(picture(), kind, 6), SPEC))


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
def test_exif_that_cannot_be_read_turns_nothing(exif: bytes) -> None:
    out = io.BytesIO()
    picture().save(out, "JPEG", exif=exif)
    assert np.array_equal(decode(out.getvalue(), SPEC), decode(written(picture(), "JPEG"), SPEC))


def test_a_picture_of_one_endless_row_is_refused() -> None:
    with pytest.raises(NotAPhoto, match="70000 x 1 is more than 65,535 pixels long"):
        decode(written(Image.new("L", (70_000, 1)), "PNG"), SPEC)


def mutated(data: bytes, dice: random.Random) -> bytes:
    """The file with a few bytes, words or ends of it changed, mostly near its head, where its tags are."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 8)):
        at = dice.randrange(min(len(changed), dice.choice((64, 700, len(changed)))))
        change = dice.randrange(5)
        if change == 0:
            changed[at] = dice.randrange(256)
        elif change == 1:
            changed[at : at + 2] = dice.choice((b"\0\0", b"\xff\xff", b"\x7f\xff", b"\0\2", b"\2\0", b"\0\7"))
        elif change == 2:
            changed[at : at + 4] = dice.randbytes(4)
        elif change == 3:
            changed[at:at] = changed[at : at + dice.randint(1, 40)]
        else:
            del changed[at + 1 : at + dice.randint(1, 40)]
    return bytes(changed)


def test_nothing_but_not_a_photo_is_raised_on_broken_files() -> None:
    seed = 20_251
    dice = random.Random(seed)
    small = (24, 16)
    originals = [
        written(picture(mode, small), kind, 6, CAMERA if kind != "TIFF" else None, **options)
        for mode, kind, options in (
            ("RGB", "JPEG", {}), ("CMYK", "JPEG", {"progressive": True}), ("L", "JPEG", {"dpi": (72, 72)}),
            ("RGBA", "PNG", {}), ("P", "PNG", {"transparency": 2}), ("I;16", "PNG", {}), ("1", "PNG", {}),
            ("RGB", "WEBP", {}), ("RGBA", "WEBP", {"lossless": True}),
            ("RGB", "TIFF", {}), ("P", "TIFF", {"compression": "tiff_lzw"}), ("1", "TIFF", {"compression": "group4"}),
            ("RGB", "TIFF", {"compression": "jpeg"}), ("F", "TIFF", {}), ("P", "GIF", {"transparency": 1}),
            ("P", "BMP", {}),
        )
    ]  # fmt: skip
    outcomes = {"answered": 0, "refused": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(FUZZED):
            data = mutated(dice.choice(originals), dice)
            try:
                assert decode(data, SPEC, 1_000_000).shape == (32, 32, 3)
                outcomes["answered"] += 1
            except NotAPhoto:
                outcomes["refused"] += 1
            except Exception as error:
                raise AssertionError(f"file {number} of seed {seed}: {error!r}\n{data.hex()}") from error
    assert min(outcomes.values()) > FUZZED / 10, outcomes


ARITHMETIC = b"\xff\xcc\0\4\0\0"  # DAC, which not every reader skips


def rearranged(jpeg: bytes, change: str) -> bytes:
    scan = jpeg.index(b"\xff\xda")
    if change == "one component a scan":
        return jpeg[: scan + 4] + b"\1" + jpeg[scan + 5 :]
    if change == "a segment that not all skip":
        return jpeg[:2] + ARITHMETIC + jpeg[2:]
    return jpeg[:scan] + b"\0" + jpeg[scan:] if change == "junk between segments" else jpeg


@pytest.mark.parametrize(
    ("change", "progressive", "whole"),
    [
        ("", False, False), ("", True, True), ("one component a scan", False, True),
        ("a segment that not all skip", False, True), ("junk between segments", False, True),
    ],
)  # fmt: skip
def test_a_jpeg_is_held_whole_unless_its_first_scan_is_surely_all_of_it(
    change: str, progressive: bool, whole: bool
) -> None:
    data = rearranged(written(picture(size=(1200, 900)), "JPEG", 6, CAMERA, progressive=progressive), change)
    decoded, values = 10 * 150 * 113, 3 * 1200 * 900
    assert footprint(open_photo(data), SPEC) == decoded + (2 * values if whole else 0)
