"""The network: made by timm from its name, kept in a checkpoint with a plain description beside it."""

from __future__ import annotations

import difflib
import json
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plantops.bundle import EMBEDDING, LOGITS, MAPS
from plantops.errors import StepFailed
from plantops.ml.files import CHECKPOINT, CHECKPOINT_FOLDER, CHECKPOINT_INFO
from plantops.ml.frameworks import timm, torch
from plantops.ml.graph import Graph
from plantops.ml.scores import softmax
from plantops.photo import normalise, table
from plantops.preprocess import Preprocessing

_BATCH = 64
_TRAIN = "dvc repro --force train"
_COARSEST = 3  # rows and columns of a map that can point at anything


@dataclass(frozen=True)
class Info:
    """What model.json says of the checkpoint beside it."""

    backbone: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    parameters: int
    sample_data: bool
    data_digest: str
    started_from: str = ""  # the release that its training went on from

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "preprocessing": self.preprocessing.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Info:
        """Read what :meth:`to_dict` wrote."""
        spec = Preprocessing.from_dict(values["preprocessing"])
        return cls(**{**values, "classes": tuple(values["classes"]), "preprocessing": spec})


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """What the network in a checkpoint has learned, by name; nothing is unpickled.

    Raises FileNotFoundError, and StepFailed when it is damaged.
    """
    try:
        held = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (RuntimeError, torch.serialization.pickle.UnpicklingError, EOFError) as error:  # each, by the damage
        raise StepFailed(f"{checkpoint} is damaged ({type(error).__name__})", _TRAIN) from None
    state = held.get("state_dict") if isinstance(held, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise StepFailed(f"{checkpoint} is damaged (it holds no weights by name)", _TRAIN)
    return {key.removeprefix("network."): value for key, value in state.items()}


def takes_one_size(backbone: str) -> bool:
    """Whether the network is made for one size of input, as transformers are."""
    return bool(getattr(timm.get_pretrained_cfg(backbone), "fixed_input_size", False))


def make(backbone: str, classes: int, size: int, pretrained: bool = False) -> torch.nn.Module:
    """A network for ``classes`` classes and photos of ``size`` pixels, in channels-last memory.

    Raises StepFailed when timm knows no such name, or the weights cannot be had.
    """
    _check_known(backbone)
    options = {"img_size": size} if takes_one_size(backbone) else {}
    network = _create(backbone, pretrained, num_classes=classes, **options)
    return network.to(memory_format=torch.channels_last)


def _create(backbone: str, pretrained: bool, **options: Any) -> torch.nn.Module:
    try:
        return timm.create_model(backbone, pretrained=pretrained, **options)
    except Exception as error:  # timm, Hugging Face's hub and its HTTP client each raise their own
        if not pretrained:
            raise
        raise StepFailed(
            f"the pretrained weights of {backbone} cannot be had: {type(error).__name__}: {error}",
            "check the network, choose another model.backbone, or set model.pretrained to false in params.yaml",
        ) from error


def _check_known(backbone: str) -> None:
    name = backbone.partition(".")[0]
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), 3)
        raise StepFailed(
            f"params.yaml: timm knows no model.backbone `{backbone}`", f"one of: {', '.join(close) or 'resnet10t'}"
        )


def normalisation(backbone: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and std per channel that ``backbone`` was, or would be, pretrained with. Raises StepFailed."""
    _check_known(backbone)
    settings = timm.get_pretrained_cfg(backbone)
    return tuple(settings.mean), tuple(settings.std)


@dataclass(frozen=True)
class Seen:
    """What a network says of n photos: ``logits`` (n, classes), and where it can tell, ``embedding`` (n, d).

    ``activation`` (n, rows, columns): the class-activation map of the class that it answers, 3 x 3 or finer.
    """

    logits: NDArray[np.float32]
    embedding: NDArray[np.float32] | None
    activation: NDArray[np.float32] | None


def gathered(batches: Iterable[Mapping[str, NDArray[np.float32]]]) -> Seen:
    """The outputs of :mod:`plantops.ml.graph`, batch by batch, as one; of the maps only that of the class answered."""
    found = defaultdict[str, list[NDArray[np.float32]]](list)
    for outputs in batches:
        for name, values in outputs.items():
            answer = outputs[LOGITS].argmax(1)
            found[name].append(values[np.arange(len(values)), answer] if name == MAPS else values)
    whole = {name: np.concatenate(parts) for name, parts in found.items()}
    maps = whole.get(MAPS)
    fine = maps is not None and min(maps.shape[1:]) >= _COARSEST
    return Seen(whole[LOGITS], whole.get(EMBEDDING), maps if fine else None)


@dataclass(frozen=True)
class Model:
    """A trained network with its description; answers photos as serving does."""

    info: Info
    network: torch.nn.Module
    temperature: float = 1.0

    @classmethod
    def load(cls, folder: Path = CHECKPOINT_FOLDER, checkpoint: str = CHECKPOINT) -> Model:
        """Load checkpoint and description; nothing is unpickled. Raises StepFailed when one is missing or damaged."""
        try:
            info = Info.from_dict(json.loads((folder / CHECKPOINT_INFO).read_text()))
            state = weights(folder / checkpoint)
        except FileNotFoundError as error:
            raise StepFailed(f"{error.filename} is missing", "dvc repro train") from None
        network = make(info.backbone, len(info.classes), info.preprocessing.size)
        try:
            network.load_state_dict(state)
        except (RuntimeError, TypeError, AttributeError) as error:  # other names or shapes; no tensors
            said = str(error).strip().partition("\n")[0]
            raise StepFailed(f"{folder / checkpoint} does not fit {info.backbone}: {said}", _TRAIN) from None
        return cls(info, network.eval())

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Answers for uint8 (n, size, size, 3): probabilities (n, classes)."""
        answers = [self.network(batch).numpy() for batch in self._batches(pixels)]
        return softmax(np.concatenate(answers), self.temperature)

    def see(self, pixels: NDArray[np.uint8]) -> Seen:
        """All that the network says of uint8 (n, size, size, 3); n is 1 or more."""
        graph = Graph(self.network, self.info.preprocessing.size)
        outputs = (zip(graph.outputs, graph(batch), strict=True) for batch in self._batches(pixels))
        return gathered({name: values.numpy() for name, values in one} for one in outputs)

    def _batches(self, pixels: NDArray[np.uint8]) -> Iterator[torch.Tensor]:
        lookup = table(self.info.preprocessing)
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            for start in range(0, len(pixels), _BATCH):
                batch = torch.from_numpy(normalise(pixels[start : start + _BATCH], lookup))
                yield batch.contiguous(memory_format=torch.channels_last)
