"""A loaded bundle: photo bytes to probabilities, and the proof that it answers as its checkpoint did."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from plantops.bundle import EMBEDDING, GOLDEN_TOLERANCE, MAPS, BadBundle, Bundle, Golden, Manifest, worst_difference
from plantops.photo import decode, normalise, table
from plantops.serve.doubts import Doubts
from plantops.serve.identity import Identity, identify


class NotProven(ValueError):
    """The bundle gives other answers than its checkpoint gave; the text says on which photo and by how much."""


@dataclass(frozen=True)
class Seen:
    """What the model made of one photo.

    ``probabilities`` by class, in the manifest's order, float64 (classes,). ``unlike``: whether it looks like nothing
    that it was trained on, where the bundle can tell. ``maps``: class-activation maps, float32 (classes, rows,
    columns), where they were asked for and the graph has them. ``odd``: how it differs from what is usual, as
    :meth:`plantops.drift.Usual.odd` gives it, where the bundle can tell.
    """

    probabilities: NDArray[np.float64]
    unlike: bool | None = None
    maps: NDArray[np.float32] | None = None
    odd: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Predictor:
    """Set up once by :func:`load`; then safe to use from several threads.

    ``input``, ``outputs``: their names in the graph.
    """

    bundle: Bundle
    identity: Identity
    session: Any
    input: str
    outputs: tuple[str, ...]
    lookup: NDArray[np.float32]
    doubts: Doubts

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """The bytes of a photo that is no stranger's to pixels, uint8, shape (size, size, 3). Raises NotAPhoto."""
        return decode(data, self.manifest.preprocessing)

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Probabilities by class, in the manifest's order, shape (classes,). Raises ArithmeticError on NaN."""
        return self.look(pixels).probabilities

    def look(self, pixels: NDArray[np.uint8], explain: bool = False) -> Seen:
        """The same and what else is known; with its maps to ``explain`` it. Raises ArithmeticError on NaN."""
        return self.look_at(pixels[None], explain)[0]

    def look_at(self, photos: NDArray[np.uint8], explain: bool = False) -> list[Seen]:
        """The same of several photos in one pass, (n, size, size, 3)."""
        logits, *others = self.outputs
        wanted = {EMBEDDING: self.doubts.needs_embedding, MAPS: explain}
        names = [logits, *(name for name in others if wanted.get(name))]
        arrays = self.session.run(names, {self.input: normalise(photos, self.lookup)})
        rows = (dict(zip(names, row, strict=True)) for row in zip(*arrays, strict=True))
        return [self._seen(pixels, row) for pixels, row in zip(photos, rows, strict=True)]

    def _seen(self, pixels: NDArray[np.uint8], found: dict[str, NDArray[np.float32]]) -> Seen:
        logits = self.outputs[0]
        probabilities = softmax(found[logits].astype(np.float64) / self.manifest.temperature)
        embedding = found.get(EMBEDDING)
        far, usual, odd = self.doubts.distance(embedding), self.doubts.usual, None
        if usual and embedding is not None and far is not None:
            numbers = usual.photo(pixels, embedding, float(probabilities.max()), far)
            odd = usual.odd(numbers, int(probabilities.argmax()))
        return Seen(probabilities, self.doubts.unlike(far), found.get(MAPS), odd)

    def ranked(self, probabilities: NDArray[np.float64], top: int) -> list[tuple[str, float]]:
        """The ``top`` likeliest classes with their probability, likeliest first."""
        order = np.argsort(-probabilities, kind="stable")[:top]
        return [(self.manifest.classes[index], float(probabilities[index])) for index in order]

    def difference(self, golden: Golden) -> float:
        """Largest difference in probability on one golden photo."""
        probabilities = self.predict(self.decode(golden.file.read_bytes()))
        return worst_difference(golden, dict(zip(self.manifest.classes, map(float, probabilities), strict=True)))

    def prove(self) -> float:
        """Answer the golden photos; returns the largest difference. Raises NotProven when it is too large."""
        worst = 0.0
        for golden in self.bundle.golden():
            difference = self.difference(golden)
            if not difference <= GOLDEN_TOLERANCE:
                raise NotProven(
                    f"golden photo {golden.file.name}: the probabilities differ by {difference:.6f} from the "
                    f"checkpoint's (at most {GOLDEN_TOLERANCE} is allowed)"
                )
            worst = max(worst, difference)
        return worst

    def together(self, most: int) -> int:
        """How many photos, up to ``most``, it looks at in one pass and answers to the bit as one by one.

        Found out with the golden photos, on this machine: a graph may take one photo only, or add up in another order
        where there are several.
        """
        if isinstance(self.session.get_inputs()[0].shape[0], int):
            return 1
        files = [golden.file.read_bytes() for golden in self.bundle.golden()][:most]
        photos = np.stack([self.decode(files[number % len(files)]) for number in range(most)])
        single = [self.look(one) for one in photos]
        for several in range(2, most + 1):
            try:
                found = self.look_at(photos[:several])
            except Exception:  # noqa: BLE001  one by one it answers, so it can be served
                return several - 1
            if any(not _same(*pair) for pair in zip(single, found, strict=False)):
                return several - 1
        return most


def load(path: Path) -> Predictor:
    """Open the bundle in folder ``path`` for serving. Raises BadBundle."""
    bundle = Bundle.load(path)
    session = onnxruntime.InferenceSession(str(bundle.model), _options(), providers=["CPUExecutionProvider"])
    outputs = tuple(one.name for one in session.get_outputs())
    answers = session.get_outputs()[0].shape[-1]
    if answers != len(bundle.manifest.classes):
        raise BadBundle(f"the model has {answers} outputs, manifest.json {len(bundle.manifest.classes)} classes")
    lookup, doubts = table(bundle.manifest.preprocessing), Doubts.load(bundle, EMBEDDING in outputs[1:])
    return Predictor(bundle, identify(bundle), session, session.get_inputs()[0].name, outputs, lookup, doubts)


def _same(one: Seen, other: Seen) -> bool:
    """Whether two answers are the same to the bit."""
    pairs = ((one.probabilities, other.probabilities), (one.odd, other.odd))
    return one.unlike == other.unlike and all(a is b or np.array_equal(a, b) for a, b in pairs)  # type: ignore[arg-type]


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities that sum to one. Raises ArithmeticError when the model gave no numbers."""
    powers = np.exp(logits - logits.max())
    probabilities: NDArray[np.float64] = powers / powers.sum()
    if not np.isfinite(probabilities).all():
        raise ArithmeticError("the model's output holds values that are no numbers")
    return probabilities


def _options() -> Any:
    # One thread a photo, several photos at once: that uses the cores. ONNX Runtime's own threads would spin beside it,
    # and a process that has them cannot be forked.
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options
