"""Batches: whole, varied by moves that keep every pixel's colour, and normalised as serving does it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from plantops.errors import StepFailed
from plantops.ml.batches import Light, Photos, Share, Shares, loader, model_input, moved, softened, varied
from plantops.ml.frameworks import torch
from plantops.photo import normalise, table
from plantops.preprocess import Preprocessing

SPEC = Preprocessing(20, "crop", "bilinear", True, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
IMAGES = np.random.default_rng(0).integers(0, 256, (30, 20, 20, 3), np.uint8)
ROWS = np.array([3, 5, 8, 13, 21, 29])


def all_moves(image: np.ndarray) -> set[bytes]:
    """Every flip, transposition and shift by up to 2 of 20 pixels, done the plain way."""
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    found = set()
    for down in range(5):
        for across in range(5):
            cut = padded[down : down + 20, across : across + 20]
            for turned in (cut, cut.transpose(1, 0, 2)):
                found |= {
                    turned[a, b].tobytes()
                    for a in (slice(None), slice(None, None, -1))
                    for b in (slice(None), slice(None, None, -1))
                }
    return found


def test_a_moved_photo_is_one_of_its_flips_transpositions_and_shifts() -> None:
    allowed = {row: all_moves(IMAGES[row]) for row in ROWS}
    vary, seen = np.random.default_rng(1), set()
    for _ in range(20):
        for row, image in zip(ROWS, moved(IMAGES, ROWS, vary), strict=True):
            assert image.tobytes() in allowed[row]
            seen.add(image.tobytes())
    assert len(seen) > 80


def test_the_same_seed_gives_the_same_moves() -> None:
    first, second = (moved(IMAGES, ROWS, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first, second)


def test_some_photos_are_compressed_once_more() -> None:
    images = np.repeat(np.repeat(IMAGES[:, ::4, ::4], 8, 1), 8, 2)  # blocks: noise would be no photo
    rows = np.arange(30)
    before, after = moved(images, rows, np.random.default_rng(3)), varied(images, rows, np.random.default_rng(3))
    off = np.abs(after.astype(int) - before).mean((1, 2, 3))
    assert 4 <= (off > 0).sum() <= 14
    assert off.max() < 30


def test_the_model_sees_what_serving_computes() -> None:
    pixels = torch.from_numpy(IMAGES)
    ours = model_input(pixels, torch.tensor(SPEC.mean), torch.tensor(SPEC.std), None)
    assert np.abs(ours.numpy() - normalise(IMAGES, table(SPEC))).max() < 1e-6
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_light_changes_brightness_contrast_and_colour_of_each_photo_by_itself() -> None:
    pixels = torch.from_numpy(IMAGES)
    light = Light.draw(pixels, torch.Generator().manual_seed(1))
    assert light.gain.shape == (30, 1, 1, 3)
    assert len(light.gain.unique()) == 90
    assert len(light.offset.unique()) == 30
    lit = pixels.float() / 255 * light.gain + light.offset
    change = (lit - pixels.float() / 255).abs()
    assert 0.02 < change.mean() < 0.2
    assert change.max() < 0.6


def test_half_of_the_photos_are_blurred_by_up_to_a_pixel() -> None:
    images = model_input(torch.from_numpy(IMAGES), torch.tensor(SPEC.mean), torch.tensor(SPEC.std), None)
    given = softened(images, torch.Generator().manual_seed(1))
    line = np.array([1, 4, 6, 4, 1]) / 16
    blurred = images.numpy()
    for axis in (2, 3):
        blurred = ndimage.correlate1d(blurred, line, axis, mode="mirror")
    shares = []
    for ours, before, after in zip(given.numpy(), images.numpy(), blurred, strict=True):
        share = ((ours - before) * (after - before)).sum() / ((after - before) ** 2).sum()
        np.testing.assert_allclose(ours, before + share * (after - before), atol=1e-5)
        shares.append(share)
    assert 8 <= sum(share > 1e-3 for share in shares) <= 22
    assert all(-1e-6 <= share <= 1 for share in shares)
    assert len({round(float(share), 4) for share in shares if share > 1e-3}) > 6


@pytest.mark.parametrize(("count", "batches"), [(6, 3), (5, 2), (1, 1)])
def test_training_batches_are_shuffled_and_whole(count: int, batches: int) -> None:
    labels = np.arange(count)
    given = list(loader(Photos(IMAGES, ROWS[:count], labels, np.random.default_rng(1)), 2, seed=3))
    assert len(given) == batches
    assert all(len(pixels) == len(numbers) for pixels, numbers, _ in given)


def test_validation_batches_are_all_photos_in_order() -> None:
    given = list(loader(Photos(IMAGES, ROWS, np.arange(6)), 4))
    assert torch.cat([numbers for _, numbers, _ in given]).tolist() == [0, 1, 2, 3, 4, 5]
    assert np.array_equal(torch.cat([pixels for pixels, _, _ in given]).numpy(), IMAGES[ROWS])
    assert torch.cat([rows for _, _, rows in given]).tolist() == ROWS.tolist()


@pytest.mark.parametrize(("count", "used"), [(30, 24), (24, 24), (9, 8), (4, 4)])
def test_the_batches_are_the_same_however_many_processes_share_them(count: int, used: int) -> None:
    def epoch(of: int, number: int) -> list[set[int]]:
        shares = [Shares(count, 8, 5, Share(rank, of)) for rank in range(of)]
        for one in shares:
            one.set_epoch(number)
        each = [np.reshape(list(one), (-1, one.each)) for one in shares]
        assert all(len(list(one)) == len(one) for one in shares)
        return [set(batch.tolist()) for batch in np.concatenate(each, axis=1)]

    assert epoch(2, 3) == epoch(1, 3)
    assert sum(len(batch) for batch in epoch(2, 3)) == used
    assert len(set().union(*epoch(2, 3))) == used
    assert epoch(2, 3) != epoch(2, 4) or count <= 8
    with pytest.raises(StepFailed, match=f"{count} photos to learn from are too few for 16 processes"):
        Shares(count, 8, 5, Share(0, 16))


def test_the_loader_of_a_share_gives_that_share() -> None:
    photos = Photos(IMAGES, np.arange(30), np.arange(30), np.random.default_rng(1))
    given = [rows.tolist() for *_, rows in loader(photos, 8, 5, Share(1, 2))]
    assert [len(batch) for batch in given] == [4, 4, 4]
    assert [row for batch in given for row in batch] == list(Shares(30, 8, 5, Share(1, 2)))


def test_each_photo_is_judged_by_one_process() -> None:
    photos = Photos(IMAGES, np.arange(7), np.arange(7))
    parts = [photos.part(Share(rank, 3)) for rank in range(3)]
    assert sorted(row for part in parts for row in part.rows) == list(range(7))
    assert all((part.rows == part.labels).all() for part in parts)
