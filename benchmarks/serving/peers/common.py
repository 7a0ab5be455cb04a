"""What a user of any of the peers writes: photo bytes to the network's input, and its output to an answer."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

FOLDER = os.environ["BENCHMARK_MODEL"]
CLASSES = json.loads(Path(FOLDER, "classes.json").read_text())
SIZE = 128
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def decode(data: bytes) -> np.ndarray:
    """float32 (1, 3, SIZE, SIZE)."""
    return normalise(Image.open(io.BytesIO(data)))


def normalise(image: Image.Image) -> np.ndarray:
    """The same of an opened photo."""
    image.draft("RGB", (2 * SIZE, 2 * SIZE))
    image = ImageOps.exif_transpose(image).convert("RGB")
    image = ImageOps.fit(image, (SIZE, SIZE), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32) / 255
    return ((pixels - MEAN) / STD).transpose(2, 0, 1)[None]


def session():
    """ONNX Runtime with one thread: there are as many workers as cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(f"{FOLDER}/model.onnx", options, providers=["CPUExecutionProvider"])


def infer(model, batch: np.ndarray) -> np.ndarray:
    """Logits."""
    return model.run(["logits"], {model.get_inputs()[0].name: batch})[0]


def answer(logits: np.ndarray) -> dict[str, object]:
    """The five likeliest classes."""
    powers = np.exp(logits - logits.max())
    shares = powers / powers.sum()
    best = np.argsort(-shares)[:5]
    top = [{"class": CLASSES[index], "confidence": float(shares[index])} for index in best]
    return {"prediction": top[0]["class"], "confidence": top[0]["confidence"], "top5_predictions": top}
