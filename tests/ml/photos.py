"""Tiny photos and projects, made by Pillow in a folder of the test's own."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

PARAMS = {
    "seed": 1,
    "prepare": {"raw": "raw", "min_side": 16},
    "split": {"group_by": r"___(.+ \d*)\d\d\.\w+$", "val": 0.2, "test": 0.2},
    "model": {"backbone": "resnet10t", "pretrained": False, "size": 32, "fit": "crop", "freeze_epochs": 0},
    "train": {
        "epochs": 10, "batch_size": 6, "lr": 0.002, "weight_decay": 0.02, "label_smoothing": 0.1, "patience": 6,
        "small_epochs": 0, "precision": "32", "accelerator": "cpu", "finetune_from": None, "finetune_epochs": 2,
    },
    "evaluate": {"target_accuracy": 0.9, "false_alarms": 0.05, "repeats": 1},
    "export": {"quantize": "off", "tolerance": 0.005},
}  # fmt: skip
CLASSES = ("Pepper,_bell___healthy", "Spider_mites Two-spotted_spider_mite", "Cherry_(including_sour)___healthy")


def params(folder: Path, **changed: dict[str, object]) -> None:
    """Write params.yaml; ``changed`` replaces keys of its sections."""
    values = {key: {**part, **changed.get(key, {})} if isinstance(part, dict) else part for key, part in PARAMS.items()}
    (folder / "params.yaml").write_text(yaml.safe_dump(values))


def leaf(seed: int, kind: int = 0, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """Noise on stripes (kind 0), rings (1) or checks (2)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[1], : size[0]]
    phase = rng.uniform(0, 6)
    pattern = (
        np.sin(y / 2 + phase),
        np.sin(np.hypot(x - size[0] / 2, y - size[1] / 2) / 2 + phase),
        np.sign(np.sin(x / 3 + phase) * np.sin(y / 3 + phase)),
    )[kind]
    colour = rng.uniform(60, 190, 3)
    pixels = colour + 60 * pattern[..., None] + rng.normal(0, 12, (size[1], size[0], 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, **options: object) -> bytes:
    """``image`` as JPEG bytes."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, **options)
    return file.getvalue()


def fill(raw: Path, per_class: int = 24, classes: tuple[str, ...] = CLASSES) -> None:
    """A folder per class; four photos of one leaf carry one group in their names."""
    for kind, name in enumerate(classes):
        (raw / name).mkdir(parents=True)
        for number in range(per_class):
            path = raw / name / f"{number:04d}___K{kind} {number // 4}{number % 4:02d}.jpg"
            path.write_bytes(jpeg(leaf(1000 * kind + number, kind % 3)))


def project(folder: Path, per_class: int = 24, **changed: dict[str, object]) -> Path:
    """A project with params.yaml and photos in ``raw``."""
    folder.mkdir(exist_ok=True)
    params(folder, **changed)
    fill(folder / "raw", per_class)
    return folder
