"""Draws one leaf with the marks of a disease, and photos of it. Used by `plantops sample` only.

A leaf lives in its own square, x along the midrib and y across, both in -1..1. Colour, shape, background and light
vary so much from leaf to leaf that they say nothing about the class; only the marks do.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from plantops.photo import DRAWN

SIDE = 256
_CANVAS = 320

Plane = NDArray[np.floating[Any]]
Random = np.random.Generator


@dataclass(frozen=True)
class Leaf:
    """A drawn leaf (RGBA, ``_CANVAS`` square, transparent around it) and the ground that it lies on."""

    picture: Image.Image
    ground: Image.Image
    turn: float
    scale: float
    light: Plane


@dataclass(frozen=True)
class Canvas:
    """What a disease paints on: ``rgb`` (side, side, 3) in 0..1, the place of each pixel, and the leaf's outline.

    ``inside`` is the distance to the outline across the leaf, in units of the leaf; negative outside.
    """

    rgb: Plane
    x: Plane
    y: Plane
    inside: Plane
    random: Random

    def paint(self, colour: tuple[float, float, float], strength: Plane) -> None:
        """Mix ``colour`` in, ``strength`` 0..1 for each pixel."""
        tint = np.asarray(colour, np.float32)
        self.rgb[...] += (tint - self.rgb) * strength[..., None]

    def places(self, count: int, margin: float) -> list[tuple[float, float]]:
        """``count`` random points on the leaf, at least ``margin`` from the outline."""
        rows, columns = np.nonzero(self.inside > margin)
        picked = self.random.choice(len(rows), size=min(count, len(rows)), replace=False)
        return [(float(self.x[rows[i], columns[i]]), float(self.y[rows[i], columns[i]])) for i in picked]

    def spot(self, at: tuple[float, float], radius: float, stretch: float = 1.0) -> tuple[Window, Plane]:
        """The part of the canvas around a spot, and there the distance from its middle in radii."""
        reach = 2.2 * radius * stretch
        rows, columns = _span(at[1], reach), _span(at[0], reach)
        window = Window(self, rows, columns)
        dx, dy = self.x[rows, columns] - at[0], self.y[rows, columns] - at[1]
        return window, np.hypot(dx / stretch, dy) / radius


@dataclass(frozen=True)
class Window:
    """A part of a canvas."""

    canvas: Canvas
    rows: slice
    columns: slice

    def paint(self, colour: tuple[float, float, float], strength: Plane) -> None:
        """Mix ``colour`` into this part."""
        part = self.canvas.rgb[self.rows, self.columns]
        part += (np.asarray(colour, np.float32) - part) * strength[..., None]


def grow(random: Random, disease: Callable[[Canvas], None]) -> Leaf:
    """Draw a leaf that has ``disease``."""
    x, y = _grid()
    inside = _outline(random, x, y)
    canvas = Canvas(_blade(random, x, y), x, y, inside, random)
    disease(canvas)
    shade = 1 - 0.35 * np.exp(-np.maximum(inside, 0) / 0.05) * random.uniform(0.3, 1)
    alpha = np.clip(inside * _CANVAS / 3, 0, 1)
    picture = np.dstack([canvas.rgb * shade[..., None], alpha])
    return Leaf(
        picture=Image.fromarray(_bytes(picture), "RGBA"),
        ground=_ground(random),
        turn=random.uniform(0, 360),
        scale=random.uniform(0.85, 1.1),
        light=_light(random),
    )


def photograph(leaf: Leaf, random: Random) -> bytes:
    """A photo of the leaf: JPEG, 256 x 256, with the mark of a drawn picture. Angle and light differ a little."""
    picture = _placed(leaf, random)
    shadow = picture.getchannel("A").filter(ImageFilter.GaussianBlur(5)).point(lambda value: value * 0.45)
    left, top = random.integers(0, leaf.ground.width - SIDE, 2).tolist()
    photo = leaf.ground.crop((left, top, left + SIDE, top + SIDE))
    photo.paste((10, 10, 10), (5, 6), shadow)
    photo.paste(picture, (0, 0), picture)
    lit = np.asarray(photo, np.float32) / 255 * leaf.light * _flash(random)
    lit += random.standard_normal((SIDE, SIDE, 1), np.float32) * 0.012
    out = io.BytesIO()
    Image.fromarray(_bytes(lit)).save(out, "JPEG", quality=90, comment=DRAWN)
    return out.getvalue()


def healthy(canvas: Canvas) -> None:
    """No mark."""


def early_blight(canvas: Canvas) -> None:
    """A few large brown spots with concentric rings and a yellow border."""
    for at in canvas.places(int(canvas.random.integers(4, 8)), 0.1):
        window, away = canvas.spot(at, canvas.random.uniform(0.16, 0.26))
        window.paint((0.85, 0.78, 0.25), _soft(1.45 - away, 3) * 0.8)
        window.paint((0.48, 0.31, 0.16), _soft(1 - away, 8))
        window.paint((0.14, 0.08, 0.05), _soft(1 - away, 8) * (0.5 + 0.5 * np.cos(away * 7 * math.pi)))


def late_blight(canvas: Canvas) -> None:
    """Wide dark blotches that grow in from the edge, with a pale border."""
    wave = _noise(canvas.random, 14, _CANVAS) * 0.4
    edge = np.abs(canvas.inside) < 0.04
    rows, columns = np.nonzero(edge & (np.abs(canvas.x) < 0.9))
    for i in canvas.random.integers(0, len(rows), int(canvas.random.integers(3, 6))):
        at = canvas.x[rows[i], columns[i]], canvas.y[rows[i], columns[i]]
        away = np.hypot(canvas.x - at[0], canvas.y - at[1]) / canvas.random.uniform(0.4, 0.6) + wave
        canvas.paint((0.86, 0.88, 0.70), _soft(1.3 - away, 5) * 0.85)
        canvas.paint((0.16, 0.10, 0.09), _soft(1 - away, 8) * 0.97)


def bacterial_spot(canvas: Canvas) -> None:
    """Many small black spots, each with a yellow halo."""
    for at in canvas.places(int(canvas.random.integers(35, 70)), 0.03):
        window, away = canvas.spot(at, canvas.random.uniform(0.03, 0.055))
        window.paint((0.90, 0.85, 0.30), _soft(1.9 - away, 2) * 0.75)
        window.paint((0.09, 0.06, 0.05), _soft(1 - away, 5))


def common_rust(canvas: Canvas) -> None:
    """A great many raised orange streaks along the veins, without a halo."""
    for at in canvas.places(int(canvas.random.integers(90, 170)), 0.02):
        window, away = canvas.spot(at, canvas.random.uniform(0.014, 0.022), stretch=2.6)
        window.paint((0.30, 0.12, 0.04), _soft(1.7 - away, 3) * 0.7)
        window.paint((0.93, 0.48, 0.12), _soft(1 - away, 4))


def mosaic(canvas: Canvas) -> None:
    """Pale and dark green patches with hard borders, all over."""
    field = _noise(canvas.random, 13, _CANVAS)
    canvas.paint((0.80, 0.86, 0.42), _soft(field - 0.12, 9) * 0.7)
    canvas.paint((0.06, 0.22, 0.10), _soft(-field - 0.12, 9) * 0.6)


def mildew(canvas: Canvas) -> None:
    """White, powdery patches."""
    grain = canvas.random.random((_CANVAS, _CANVAS), np.float32)
    for at in canvas.places(int(canvas.random.integers(7, 14)), 0.05):
        window, away = canvas.spot(at, canvas.random.uniform(0.12, 0.24))
        window.paint((0.94, 0.94, 0.92), _soft(1 - away, 1.6) * (0.55 + 0.45 * grain[window.rows, window.columns]))


def _grid() -> tuple[Plane, Plane]:
    line = np.linspace(-1, 1, _CANVAS, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    return x, y


def _span(middle: float, reach: float) -> slice:
    scale = (_CANVAS - 1) / 2
    return slice(max(0, int((middle - reach + 1) * scale)), max(1, int((middle + reach + 1) * scale) + 2))


def _outline(random: Random, x: Plane, y: Plane) -> Plane:
    """Distance to the outline across the leaf: its half width at x, less |y|."""
    along = np.clip((x + 0.95) / 1.9, 0, 1)
    fullest = random.uniform(0.3, 0.55)
    swell = along ** (fullest / (1 - fullest))
    swollen, arch = (np.sin(np.pi * part).clip(0) for part in (swell, along))
    width = random.uniform(0.42, 0.85) * swollen ** random.uniform(0.55, 0.95)
    teeth = random.uniform(0, 0.05) * np.sin(along * random.uniform(30, 90)) * np.sqrt(arch)
    bend = random.uniform(-0.12, 0.12) * (1 - x**2)
    stalk = np.where((x < -0.8) & (x > -1), 0.022, -0.05)
    return np.maximum(np.where(width > 0, width + teeth, -0.05), stalk).astype(np.float32) - np.abs(y - bend)


def _blade(random: Random, x: Plane, y: Plane) -> Plane:
    """The green of a leaf, with its veins: from yellow-green to blue-green, from pale to nearly black."""
    light = random.uniform(0.4, 0.8)
    green = np.array([random.uniform(0.35, 0.95), 1.0, random.uniform(0.25, 0.7)], np.float32) * light
    tone = 1 + 0.14 * _noise(random, 5, _CANVAS) + 0.08 * _noise(random, 40, _CANVAS)
    spacing, lean = random.uniform(9, 16), random.uniform(0.5, 1.0)
    veins = np.abs(np.sin(spacing * (x - lean * np.abs(y)))) < 0.07
    vein = _soft(0.018 - np.abs(y), 120) + 0.5 * veins
    tone += random.uniform(0.2, 0.5) * np.clip(vein, 0, 1)
    return green * tone[..., None]


def _ground(random: Random) -> Image.Image:
    side = SIDE + 24
    colour = np.array(random.uniform(0.15, 0.85, 3), np.float32)
    colour += (colour.mean() - colour) * 0.6
    tone = 1 + 0.12 * _noise(random, 4, side) + random.uniform(0, 0.12) * _noise(random, 90, side)
    return Image.fromarray(_bytes(colour * tone[..., None]))


def _light(random: Random) -> Plane:
    """Colour and slope of the light, shape (side, side, 3), around 1."""
    x, y = np.meshgrid(*[np.linspace(-1, 1, SIDE, dtype=np.float32)] * 2)
    angle = random.uniform(0, 2 * math.pi)
    slope = 1 + random.uniform(0, 0.25) * (x * math.cos(angle) + y * math.sin(angle))
    cast = np.asarray(random.uniform(0.82, 1.18, 3) * random.uniform(0.75, 1.25), np.float32)
    return slope[..., None] * cast


def _flash(random: Random) -> Plane:
    """How the light of one photo differs from the next, per channel."""
    return np.asarray(random.uniform(0.8, 1.2) * random.uniform(0.92, 1.08, 3), np.float32)


def _placed(leaf: Leaf, random: Random) -> Image.Image:
    """The leaf turned, scaled and shifted onto the photo, RGBA."""
    angle = math.radians(leaf.turn + random.uniform(-10, 10))
    scale = _CANVAS / SIDE / (leaf.scale * random.uniform(0.96, 1.04))
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    shift = SIDE / 2 + random.uniform(-10, 10, 2)
    half = _CANVAS / 2
    matrix = (cos, sin, half - cos * shift[0] - sin * shift[1], -sin, cos, half + sin * shift[0] - cos * shift[1])
    return leaf.picture.transform((SIDE, SIDE), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def _noise(random: Random, cells: int, side: int) -> Plane:
    """Smooth noise, about -1..1, with ``cells`` bumps along a side."""
    grid = Image.fromarray(random.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC))


def _soft(value: Plane, slope: float) -> Plane:
    """0 below, 1 above, a ramp of 1/``slope`` between."""
    ramp: Plane = np.clip(value * slope, 0, 1)
    return ramp


def _bytes(values: Plane) -> NDArray[np.uint8]:
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
