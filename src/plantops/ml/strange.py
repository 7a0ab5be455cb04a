"""Pictures that are no leaves, made with NumPy alone: what a model should say that it does not know.

They are drawn, because nothing can be downloaded where a model is trained; real photos of other things are harder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Drawing = Any  # float64 (size, size, 3), to be clipped to 0..255
PATCHES = 8
TITLES = {
    "noise": "noise", "clouds": "clouds of colour", "gradients": "gradients", "stripes": "stripes and checks",
    "shapes": "shapes", "scrambled": "leaf photos cut up and scrambled",
}  # fmt: skip


def make(size: int, each: int, photos: Pixels) -> dict[str, Pixels]:
    """``each`` pictures of every kind, uint8 (each, size, size, 3), the same every time.

    ``photos`` (n, size, size, 3) are cut into patches and put together anew for one of the kinds.
    """
    kinds: dict[str, Callable[[np.random.Generator, int], Drawing]] = {
        "noise": _noise, "clouds": _clouds, "gradients": _gradient, "stripes": _pattern, "shapes": _shapes,
    }  # fmt: skip
    made = {}
    for number, (name, draw) in enumerate(kinds.items()):
        drawn = [draw(np.random.default_rng([number, one]), size) for one in range(each)]
        made[name] = np.stack(drawn).clip(0, 255).astype(np.uint8)
    made["scrambled"] = np.stack([_scrambled(photos[one % len(photos)], one) for one in range(each)])
    return made


def _coordinates(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, x = np.mgrid[:size, :size] / size
    return x, y


def _noise(rng: np.random.Generator, size: int) -> Drawing:
    return rng.normal(rng.uniform(60, 200, 3), rng.uniform(20, 80), (size, size, 3))


def _clouds(rng: np.random.Generator, size: int) -> Drawing:
    """Noise whose power falls with its frequency, as in natural pictures."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None])
    frequency[0, 0] = 1
    waves = np.fft.fft2(rng.normal(size=(3, size, size))) / frequency ** rng.uniform(0.8, 1.6)
    clouds = np.fft.ifft2(waves).real.transpose(1, 2, 0)
    return rng.uniform(60, 200, 3) + clouds / clouds.std() * rng.uniform(25, 60)


def _gradient(rng: np.random.Generator, size: int) -> Drawing:
    x, y = _coordinates(size)
    turn = rng.uniform(0, 2 * np.pi)
    along = (x * np.cos(turn) + y * np.sin(turn))[..., None]
    return rng.uniform(0, 255, 3) * along + rng.uniform(0, 255, 3) * (1 - along)


def _pattern(rng: np.random.Generator, size: int) -> Drawing:
    x, y = _coordinates(size)
    turn, waves = rng.uniform(0, np.pi), rng.uniform(4, 24)
    first = np.sin(2 * np.pi * waves * (x * np.cos(turn) + y * np.sin(turn)))
    second = np.sin(2 * np.pi * waves * (y * np.cos(turn) - x * np.sin(turn))) if rng.random() < 0.5 else 1
    return rng.uniform(60, 200, 3) + np.sign(first * second)[..., None] * rng.uniform(-60, 60, 3)


def _shapes(rng: np.random.Generator, size: int) -> Drawing:
    x, y = _coordinates(size)
    picture = np.broadcast_to(rng.uniform(0, 255, 3), (size, size, 3)).copy()
    for _ in range(rng.integers(2, 9)):
        across, down, wide, high = *rng.uniform(0, 1, 2), *rng.uniform(0.05, 0.3, 2)
        away = np.abs(x - across) / wide, np.abs(y - down) / high
        inside = np.hypot(*away) < 1 if rng.random() < 0.5 else np.maximum(*away) < 1
        picture[inside] = rng.uniform(0, 255, 3)
    return picture


def _scrambled(photo: Pixels, seed: int) -> Pixels:
    side = photo.shape[0] // PATCHES
    cut = photo[: side * PATCHES, : side * PATCHES].reshape(PATCHES, side, PATCHES, side, 3).swapaxes(1, 2)
    mixed = np.random.default_rng(seed).permutation(cut.reshape(-1, side, side, 3))
    whole = mixed.reshape(PATCHES, PATCHES, side, side, 3).swapaxes(1, 2).reshape(side * PATCHES, side * PATCHES, 3)
    out = photo.copy()
    out[: side * PATCHES, : side * PATCHES] = whole
    return out
