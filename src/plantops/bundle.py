"""The bundle: everything needed to serve one model, in one folder.

``model.onnx``       the graph: float32 (n, 3, size, size) -> logits (n, classes), dynamic n; where it can, also
                     ``embedding`` (n, features) and ``maps`` (n, classes, rows, columns)
``model.ckpt``       the Lightning checkpoint it came from (not needed for serving)
``manifest.json``    classes, preprocessing, temperature, thresholds, digests
``reference.npz``    optional: what the photos it learned from look like to it (``mean``, ``whiten``), and what is
                     usual of photos that it did not learn from (:mod:`plantops.drift`)
``learned.csv``      optional: photos (md5, split, group) that the network had learned from before its last training
``golden.json``      for each file in ``golden/``: the checkpoint's probabilities

The digest covers what serving computes with, and nothing else: two bundles with one digest answer alike.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plantops.preprocess import Preprocessing

FORMAT = 1
MODEL, CHECKPOINT, MANIFEST, GOLDEN = "model.onnx", "model.ckpt", "manifest.json", "golden.json"
REFERENCE = "reference.npz"
UNSURE, UNLIKE = "unsure", "unlike"  # thresholds
LOGITS, EMBEDDING, MAPS = "logits", "embedding", "maps"  # outputs of the graph; the logits come first, by any name
GOLDEN_TOLERANCE = 1e-3


class BadBundle(ValueError):
    """This folder is no whole bundle; the text says what is missing or wrong, and where."""


@dataclass(frozen=True)
class Golden:
    """One photo with the answer that the checkpoint gave: probabilities by class, in 0..1."""

    file: Path
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` holds.

    ``temperature`` divides the logits before the softmax. ``thresholds``: ``unsure``, the confidence under which the
    model abstains; ``unlike``, the squared distance by ``reference.npz`` (whose sha256 is ``reference``) above which a
    photo looks like nothing it learned from. Each may be absent.
    ``model`` (backbone, parameters, sha256 of the ONNX file; ``started_from``: the release that its training went on
    from, where there is one), ``data`` (digest, photos, counts per class) and ``metrics`` (accuracy, macro_f1, ...)
    describe; they do not change an answer.
    """

    classes: tuple[str, ...]
    preprocessing: Preprocessing
    sample_data: bool
    model: dict[str, Any]
    data: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    temperature: float = 1.0
    thresholds: dict[str, float] = field(default_factory=dict)
    reference: str = ""

    @property
    def digest(self) -> str:
        """sha256, hex, of what serving computes with."""
        serving = {
            "model": self.model["sha256"],
            "classes": self.classes,
            "preprocessing": self.preprocessing.to_dict(),
            "temperature": self.temperature,
            "thresholds": self.thresholds,
            "sample_data": self.sample_data,
            **({"reference": self.reference} if self.reference else {}),
        }
        return hashlib.sha256(json.dumps(serving, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the digest included."""
        return {
            "format": FORMAT,
            "digest": self.digest,
            "classes": list(self.classes),
            "preprocessing": self.preprocessing.to_dict(),
            "temperature": self.temperature,
            "thresholds": self.thresholds,
            "sample_data": self.sample_data,
            "model": self.model,
            "data": self.data,
            "metrics": self.metrics,
            "reference": self.reference,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Manifest:
        """Read what :meth:`to_dict` wrote. Raises BadBundle when it does not hold together."""
        try:
            if values["format"] != FORMAT:
                raise BadBundle(f"bundle format {values['format']}: this plantops reads format {FORMAT}")
            manifest = cls(
                classes=tuple(values["classes"]),
                preprocessing=Preprocessing.from_dict(values["preprocessing"]),
                sample_data=values["sample_data"],
                model=values["model"],
                data=values["data"],
                metrics=values["metrics"],
                temperature=values["temperature"],
                thresholds=values["thresholds"],
                reference=values.get("reference", ""),  # bundles of earlier versions say nothing
            )
            written, digest = values["digest"], manifest.digest
        except BadBundle:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise BadBundle(f"manifest.json: {type(error).__name__}: {error}") from None
        if digest != written:
            raise BadBundle(f"manifest.json says digest {str(written)[:12]}, its content gives {digest[:12]}")
        return manifest


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk. Make one with :meth:`load`, which checks it."""

    path: Path
    manifest: Manifest

    @classmethod
    def load(cls, path: Path) -> Bundle:
        """Open the bundle in folder ``path``. Raises BadBundle when a file is missing or was changed."""
        try:
            manifest = Manifest.from_dict(json.loads((path / MANIFEST).read_bytes()))
            found = sha256(path / MODEL)
            reference = sha256(path / REFERENCE) if manifest.reference else ""
        except FileNotFoundError as error:
            raise BadBundle(f"{error.filename} is missing") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise BadBundle(f"{path / MANIFEST}: {error}") from None
        if found != manifest.model["sha256"]:
            raise BadBundle(f"{path / MODEL} is not the file that manifest.json names")
        if reference != manifest.reference:
            raise BadBundle(f"{path / REFERENCE} is not the file that manifest.json names")
        return cls(path, manifest)

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.path / MODEL

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return self.manifest.digest

    def golden(self) -> list[Golden]:
        """The golden photos, in order. Raises BadBundle when there are none or one is missing."""
        try:
            listed = json.loads((self.path / GOLDEN).read_text())["photos"]
            photos = [Golden(self.path / one["file"], one["probabilities"]) for one in listed]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise BadBundle(f"{self.path / GOLDEN}: {type(error).__name__}: {error}") from None
        missing = [str(photo.file) for photo in photos if not photo.file.is_file()]
        if missing or not photos:
            raise BadBundle(f"golden photos missing: {', '.join(missing) or 'all'}")
        return photos


def worst_difference(golden: Golden, answer: dict[str, float]) -> float:
    """Largest absolute difference in probability, by class name; infinite when the class names differ."""
    if answer.keys() != golden.probabilities.keys():
        return float("inf")
    return max(abs(answer[name] - value) for name, value in golden.probabilities.items())


def sha256(path: Path) -> str:
    """sha256, hex, of a file's bytes. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
