"""What is served and asked: an untrained network as a bundle (its speed is that of a trained one), photos, bodies.

python material.py FOLDER PHOTOS
"""

from __future__ import annotations

import base64
import io
import json
import sys
from functools import partial
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from plantops.bundle import GOLDEN, MANIFEST, MODEL, Manifest, sha256
from plantops.ml import quantize
from plantops.ml.model import make
from plantops.ml.onnxfile import write_onnx
from plantops.ml.runtime import answers
from plantops.photo import decode, normalise, table
from plantops.preprocess import Preprocessing

SIZE, BACKBONE = 128, "resnet10t"
SPEC = Preprocessing(SIZE, "crop", "bilinear", True, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BOUNDARY = "benchmarkboundary"
SMALL, LARGE = 128, 16  # how many photos of each kind
PHONE = (4000, 3000)


def main() -> None:
    """Write everything into FOLDER."""
    folder, photos = map(Path, sys.argv[1:])
    classes = sorted(one.name for one in photos.iterdir() if one.is_dir())
    small = [path.read_bytes() for path in islice(_spread(photos, classes), SMALL)]
    kinds = {"small": small, "large": [_as_by_a_phone(data) for data in small[:LARGE]]}
    _write_models(folder, classes, small)
    for kind, datas in kinds.items():
        for ending, (content_type, body) in BODIES.items():
            made = folder / f"{kind}-{ending}"
            made.mkdir()
            (made / "type").write_text(content_type)
            for number, data in enumerate(datas):
                (made / f"{number:03d}").write_bytes(body(data))
        (folder / kind).mkdir()
        for number, data in enumerate(datas):
            (folder / kind / f"{number:03d}.jpg").write_bytes(data)


def _spread(photos: Path, classes: list[str]) -> list[Path]:
    """One of each class in turn."""
    columns = [sorted((photos / name).iterdir()) for name in classes]
    return [path for row in zip_longest(*columns) for path in row if path and path.suffix.lower() in (".jpg", ".jpeg")]


def _as_by_a_phone(data: bytes) -> bytes:
    """12 megapixels; the pixels are those of the small one, so that both have one answer."""
    out = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").resize(PHONE, Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()


def _write_models(folder: Path, classes: list[str], photos: list[bytes]) -> None:
    torch.manual_seed(1)
    network = make(BACKBONE, len(classes), SIZE).eval()
    write_onnx(network, SIZE, folder / "model.onnx")
    batch = normalise(np.stack([decode(data, SPEC) for data in photos]), table(SPEC))
    quantize.write(folder / "model.onnx", folder / "int8.onnx", [batch])
    _write_bundle(folder / "bundle", folder / "model.onnx", classes, photos[:8])
    _write_bundle(folder / "bundle8", folder / "int8.onnx", classes, photos[:8])
    (folder / "classes.json").write_text(json.dumps(classes))
    torch.jit.trace(network.to(memory_format=torch.contiguous_format), torch.zeros(1, 3, SIZE, SIZE)).save(
        str(folder / "model.pt")
    )


def _write_bundle(bundle: Path, graph: Path, classes: list[str], golden: list[bytes]) -> None:
    (bundle / "golden").mkdir(parents=True)
    (bundle / MODEL).write_bytes(graph.read_bytes())
    model = {"backbone": BACKBONE, "sha256": sha256(bundle / MODEL)}
    manifest = Manifest(tuple(classes), SPEC, True, model, data={}, metrics={})
    (bundle / MANIFEST).write_text(json.dumps(manifest.to_dict()))
    listed = []
    for number, data in enumerate(golden):
        (bundle / f"golden/{number}.jpg").write_bytes(data)
        (row,) = answers(bundle / MODEL, decode(data, SPEC)[None], SPEC, 1.0)
        listed.append(
            {"file": f"golden/{number}.jpg", "probabilities": dict(zip(classes, map(float, row), strict=True))}
        )
    (bundle / GOLDEN).write_text(json.dumps({"photos": listed}))


def _form(data: bytes, field: str) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="leaf.jpg"\r\n'
    return f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def _json(data: bytes) -> bytes:
    return json.dumps({"dataframe_records": [{"photo": base64.b64encode(data).decode()}]}).encode()


_FORM = f"multipart/form-data; boundary={BOUNDARY}"
BODIES = {
    "form": (_FORM, partial(_form, field="file")),
    "request": (_FORM, partial(_form, field="request")),  # LitServe's name for the field
    "json": ("application/json", _json),
}

if __name__ == "__main__":
    main()
