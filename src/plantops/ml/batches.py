"""Whole batches from the prepared pixels, varied as they are read, and shared out where several processes learn."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from plantops.errors import StepFailed
from plantops.ml.pixels import Pixels

SHIFT = 0.1  # of the side
COMPRESSED, QUALITY = 0.3, (25, 95)  # share of the photos that are JPEG once more, and how badly
SOFT = 0.5  # share of the photos that are blurred, each as much as chance says
_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # a blur by one pixel (standard deviation)

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # pixels, class numbers, rows


@dataclass(frozen=True)
class Share:
    """One of ``of`` processes that learn together."""

    rank: int
    of: int


ALONE = Share(0, 1)


@dataclass(frozen=True)
class Photos(Dataset[Batch]):  # type: ignore[misc]
    """Pixels (all rows, uint8 (count, size, size, 3)), the rows that belong to a split, and their class numbers."""

    images: Pixels
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    vary: np.random.Generator | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, chosen: Sequence[int]) -> Batch:
        """A batch: uint8 (n, size, size, 3), class numbers (n,) and rows (n,)."""
        rows = self.rows[chosen]
        if self.vary is None:
            pixels = self.images[rows]
        elif isinstance(self.images, np.ndarray):
            pixels = varied(self.images, rows, self.vary)
        else:
            pixels = varied(self.images[rows], np.arange(len(rows)), self.vary)
        return torch.from_numpy(pixels), torch.from_numpy(self.labels[chosen]), torch.from_numpy(rows)

    def part(self, share: Share) -> Photos:
        """Every n-th photo: together the processes see each once."""
        return replace(self, rows=self.rows[share.rank :: share.of], labels=self.labels[share.rank :: share.of])


class Shares(Sampler[int]):  # type: ignore[misc]
    """One process's photos of every batch. The batches of an epoch are the same however many processes share them.

    Raises StepFailed where there are fewer than two photos for each process.
    """

    def __init__(self, count: int, batch_size: int, seed: int, share: Share) -> None:
        self.count, self.seed, self.share = count, seed, share
        self.each = min(batch_size, count) // share.of  # photos in a process's part of a batch
        if self.each < 2:
            raise StepFailed(
                f"{count} photos to learn from are too few for {share.of} processes", "fewer train.devices"
            )
        self.batches = count // (self.each * share.of)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Shuffle anew; Lightning calls it as each epoch begins."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches * self.each

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.count)
        whole = order[: len(self) * self.share.of].reshape(self.batches, self.share.of, self.each)
        yield from whole[:, self.share.rank].ravel().tolist()


def loader(photos: Photos, batch_size: int, seed: int | None = None, share: Share = ALONE) -> DataLoader[Batch]:
    """Batches of ``photos``: shuffled by ``seed`` when there is one, else all of them in order.

    ``share``: of shuffled batches, the part that this process learns from.
    """
    if seed is not None and share.of > 1:
        mine = Shares(len(photos), batch_size, seed, share)
        return DataLoader(photos, batch_size=mine.each, sampler=mine, collate_fn=_as_is)
    shuffled = seed is not None
    return DataLoader(
        photos,
        batch_size=batch_size,
        shuffle=shuffled,
        # A last batch of one photo would break batch normalisation.
        drop_last=shuffled and len(photos) > batch_size,
        collate_fn=_as_is,
        generator=torch.Generator().manual_seed(seed) if shuffled else None,
    )


def varied(images: NDArray[np.uint8], rows: NDArray[np.int64], vary: np.random.Generator) -> NDArray[np.uint8]:
    """Read ``rows`` of ``images``, moved, and some of them saved again as JPEG of a quality that chance says."""
    pixels = moved(images, rows, vary)
    for at in np.flatnonzero(vary.random(len(pixels)) < COMPRESSED):
        file = io.BytesIO()
        Image.fromarray(pixels[at]).save(file, "JPEG", quality=int(vary.integers(*QUALITY)))
        pixels[at] = np.asarray(Image.open(file))
    return pixels


def moved(images: NDArray[np.uint8], rows: NDArray[np.int64], vary: np.random.Generator) -> NDArray[np.uint8]:
    """Read ``rows`` of ``images``, each flipped, transposed and shifted at random, mirrored at the edge.

    Reading and moving are one indexed copy: 1 ms for 32 photos of 128 x 128 pixels.
    """
    count, size = len(rows), images.shape[1]
    down, across = _axis(count, size, vary), _axis(count, size, vary)
    swap = vary.random((count, 1, 1)) < 0.5
    straight = down[:, :, None] * size + across[:, None, :]
    swapped = down[:, None, :] * size + across[:, :, None]
    where = np.where(swap, swapped, straight) + (rows * size**2)[:, None, None]
    pixels: NDArray[np.uint8] = np.take(images.reshape(-1, 3), where, axis=0)
    return pixels


def _axis(count: int, size: int, vary: np.random.Generator) -> NDArray[np.int64]:
    """For each photo, which line of it comes at each place along one axis: (count, size)."""
    reach = int(size * SHIFT)
    at: NDArray[np.int64] = np.arange(size) + vary.integers(-reach, reach + 1, (count, 1))
    at = (size - 1) - np.abs((size - 1) - np.abs(at))
    turned = vary.random((count, 1)) < 0.5
    at[turned[:, 0]] = size - 1 - at[turned[:, 0]]
    return at


@dataclass(frozen=True)
class Light:
    """Random gain and offset per photo and colour: brightness, contrast and colour in one multiply-add."""

    gain: torch.Tensor
    offset: torch.Tensor

    @classmethod
    def draw(cls, pixels: torch.Tensor, generator: torch.Generator) -> Light:
        """For ``pixels``, uint8 (n, size, size, 3): gain and offset (n, 1, 1, 3), for pixels scaled to 0..1."""
        count = len(pixels)
        contrast = _around(count, 1, 0.2, generator)
        colour = _around(count, 3, 0.1, generator)
        brightness = _around(count, 1, 0.2, generator) - 1
        grey = pixels[:, ::8, ::8].float().mean((1, 2, 3)).cpu().view(count, 1) / 255
        gain = contrast * colour
        offset = (grey * (1 - contrast) + brightness).expand(-1, 3)
        shape = (count, 1, 1, 3)
        return cls(gain.view(shape).to(pixels.device), offset.reshape(shape).to(pixels.device))


def _around(count: int, channels: int, spread: float, generator: torch.Generator) -> torch.Tensor:
    return 1 + spread * (2 * torch.rand(count, channels, generator=generator) - 1)


def model_input(pixels: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, light: Light | None) -> torch.Tensor:
    """uint8 (n, size, size, 3) to the model's input, float32 (n, 3, size, size) in channels-last memory."""
    gain = 1 / (255 * std) if light is None else light.gain / (255 * std)
    offset = -mean / std if light is None else (light.offset - mean) / std
    return torch.addcmul(offset, pixels.float(), gain).permute(0, 3, 1, 2)


def softened(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The model's input, some of it blurred by up to a pixel: photos people send are less sharp than a data set's.

    ``images``: float32 (n, 3, size, size). docs/experiments.md has what it is good for.
    """
    count = len(images)
    strength = torch.rand(count, generator=generator) * (torch.rand(count, generator=generator) < SOFT)
    line = torch.tensor(_BINOMIAL, device=images.device)
    kernel = torch.outer(line, line).expand(3, 1, -1, -1)
    wide = torch.nn.functional.pad(images, (2, 2, 2, 2), mode="reflect")
    with torch.autocast(images.device.type, enabled=False):  # in float32: these are the photos, not yet the network
        blurred = torch.nn.functional.conv2d(wide, kernel, groups=3)
    return torch.lerp(images, blurred, strength.view(count, 1, 1, 1).to(images.device))


def smaller(images: torch.Tensor) -> torch.Tensor:
    """The model's input at three quarters of its side (a multiple of 32), for early epochs at half the cost.

    What is learned there serves the full size: Touvron et al. 2019, "Fixing the train-test resolution discrepancy".
    """
    side = max(32, round(images.shape[-1] * 0.75 / 32) * 32)
    if side >= images.shape[-1]:
        return images
    return torch.nn.functional.interpolate(images, (side, side), mode="bilinear", antialias=True)


def _as_is(batch: Batch) -> Batch:
    return batch


def in_order(count: int, size: int) -> Iterator[slice]:
    """Slices of ``size`` that cover ``count``."""
    for start in range(0, count, size):
        yield slice(start, start + size)
