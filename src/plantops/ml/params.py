"""params.yaml as frozen, checked values. A wrong key or type is an error that names it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from plantops import shipped, yamltext
from plantops.errors import StepFailed
from plantops.preprocess import FITS

FILE = Path("params.yaml")
PRECISIONS = ("auto", "32", "16-mixed", "bf16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu")
_UNUSED = "ddp_find_unused_parameters_true"
STRATEGIES = ("auto", "ddp", _UNUSED)
CHAMPION = "champion"
QUANTIZE = ("off", "auto")
Section = TypeVar("Section")


@dataclass(frozen=True)
class Prepare:
    """Where the photos lie, and the side in pixels under which one is set aside.

    ``store``: where the prepared pixels are kept (s3://bucket/prefix); None: in data/prepared.
    """

    raw: str
    min_side: int
    store: str | None = None


@dataclass(frozen=True)
class Split:
    """``group_by``: a regular expression on the file name, a CSV file in the photos' folder, or None.

    ``val``, ``test``: shares of the groups, 0 to 1; the rest is for training.
    """

    group_by: str | None
    val: float
    test: float


@dataclass(frozen=True)
class Model:
    """The network: a name that timm knows, and what it sees (``size`` in pixels)."""

    backbone: str
    pretrained: bool
    size: int
    fit: str
    freeze_epochs: int


@dataclass(frozen=True)
class Train:
    """How the network learns. ``patience`` counts epochs without a better validation macro-F1.

    ``finetune_from``: ``champion`` or None; ``finetune_epochs`` in place of ``epochs`` where that is followed.
    ``devices`` (processes on a machine) times ``nodes`` (machines) share each batch of ``batch_size`` photos, by the
    ``strategy`` of Lightning; where params.yaml has none of the three, one process trains, without torchrun.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    label_smoothing: float
    patience: int
    small_epochs: int
    precision: str
    accelerator: str
    finetune_from: str | None
    finetune_epochs: int
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"

    @property
    def processes(self) -> int:
        """How many learn together, each on its part of a batch."""
        return self.devices * self.nodes


@dataclass(frozen=True)
class Evaluate:
    """``target_accuracy``: what answers must reach that are not called unsure, 0 to 1.

    ``false_alarms``: share of ordinary photos that may be said to look like nothing the model learned from.
    ``repeats``: trainings, each with another seed, over which the spread of the scores is told; 1 tells none.
    """

    target_accuracy: float
    false_alarms: float
    repeats: int


@dataclass(frozen=True)
class Export:
    """``quantize``: off, or auto: the graph in eight bits where no score on validation photos falls by more than
    ``tolerance`` (0 to 1) and it is really faster."""

    quantize: str
    tolerance: float


@dataclass(frozen=True)
class Params:
    """All of params.yaml."""

    seed: int
    prepare: Prepare
    split: Split
    model: Model
    train: Train
    evaluate: Evaluate
    export: Export

    @property
    def more_seeds(self) -> range:
        """The seeds of the further trainings that ``evaluate.repeats`` asks for."""
        return range(self.seed + 1, self.seed + self.evaluate.repeats)


def load(path: Path = FILE) -> Params:
    """Read and check ``path``. Raises StepFailed with the key that is wrong and what was expected."""
    values = _read(path)
    parts: dict[str, type] = {
        "prepare": Prepare, "split": Split, "model": Model, "train": Train, "evaluate": Evaluate, "export": Export,
    }  # fmt: skip
    _known(values, {"seed", *parts}, "")
    made: dict[str, Any] = {name: _section(kind, values[name], name) for name, kind in parts.items()}
    params = Params(seed=_typed(values["seed"], int, "seed"), **made)
    _check(params)
    return params


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yamltext.read(path.read_bytes())
    except FileNotFoundError:
        raise StepFailed(f"{path} is missing", "run in the project's root; `plantops init` makes a project") from None
    except yamltext.NotYaml as error:
        raise StepFailed(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise StepFailed(f"{path} should hold keys and values")
    return values


def _section(kind: type[Section], values: Any, name: str) -> Section:
    if not isinstance(values, dict):
        raise StepFailed(f"params.yaml: `{name}` should hold keys and values, it is {values!r}")
    if name == "train" and values.get("precision") == 32:
        values = {**values, "precision": "32"}  # YAML reads the bare word as a number
    if name == "export" and values.get("quantize") is False:
        values = {**values, "quantize": "off"}  # and this one as no
    hints = get_type_hints(kind)
    optional = {one.name for one in fields(kind) if one.default is not MISSING}  # type: ignore[arg-type]
    _known(values, set(hints), f"{name}.", optional)
    return kind(**{key: _typed(values[key], hint, f"{name}.{key}") for key, hint in hints.items() if key in values})


def _known(values: dict[str, Any], expected: set[str], prefix: str, optional: Collection[str] = ()) -> None:
    unknown = sorted(str(key) for key in values if key not in expected)
    if unknown:
        known = ", ".join(sorted(expected))
        raise StepFailed(f"params.yaml: unknown key `{prefix}{unknown[0]}`", f"one of these: {known}")
    missing = sorted(expected - values.keys() - set(optional))
    if missing:
        section = prefix.rstrip(".")
        lines = "".join(f"\n{shipped.line(FILE.name, section, key)}" for key in missing)
        raise StepFailed(
            f"params.yaml: `{prefix}{missing[0]}` is missing",
            f"add below `{section}:`{lines}" if section else "add it; `plantops init` in an empty folder shows how",
        )


def _typed(value: Any, kind: Any, key: str) -> Any:
    words: dict[Any, tuple[str, Callable[[Any], bool]]] = {
        int: ("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool)),
        float: ("a number", lambda v: isinstance(v, int | float) and not isinstance(v, bool)),
        bool: ("true or false", lambda v: isinstance(v, bool)),
        str: ("text", lambda v: isinstance(v, str)),
        str | None: ("text or null", lambda v: v is None or isinstance(v, str)),
    }
    expected, fits = words[kind]
    if not fits(value):
        raise StepFailed(f"params.yaml: `{key}` should be {expected}, it is {value!r}")
    return float(value) if kind is float else value


def _check(params: Params) -> None:
    split, model, train = params.split, params.model, params.train
    rules = [
        ("seed", params.seed >= 0, "0 or more"),
        ("prepare.min_side", params.prepare.min_side >= 1, "1 or more"),
        ("prepare.store", _is_store(params.prepare.store), "s3://BUCKET or s3://BUCKET/PREFIX, or null"),
        ("split.val", 0 <= split.val < 1, "from 0 to less than 1"),
        ("split.test", 0 <= split.test < 1, "from 0 to less than 1"),
        ("split.val + split.test", split.val + split.test < 1, "less than 1, so that something is left to learn from"),
        ("model.size", 8 <= model.size <= 2048, "from 8 to 2048"),
        ("model.fit", model.fit in FITS, f"one of {', '.join(FITS)}"),
        ("model.freeze_epochs", model.freeze_epochs >= 0, "0 or more"),
        ("train.epochs", train.epochs >= 1, "1 or more"),
        ("train.devices", train.devices >= 1, "1 or more"),
        ("train.nodes", train.nodes >= 1, "1 or more"),
        ("train.strategy", train.strategy in STRATEGIES, f"one of {', '.join(STRATEGIES)}"),
        ("train.strategy", not _leaves_some_out(params), f"auto or {_UNUSED} where model.freeze_epochs is set"),
        ("train.batch_size", train.batch_size >= 2 * train.processes, f"{2 * train.processes} or more"),
        (
            "train.batch_size",
            train.batch_size % max(1, train.processes) == 0,
            "a multiple of train.devices x train.nodes",
        ),
        ("train.lr", train.lr > 0, "more than 0"),
        ("train.weight_decay", train.weight_decay >= 0, "0 or more"),
        ("train.label_smoothing", 0 <= train.label_smoothing < 1, "from 0 to less than 1"),
        ("train.patience", train.patience >= 1, "1 or more"),
        (
            "train.small_epochs",
            0 <= train.small_epochs < train.epochs,
            f"0 or more, and less than train.epochs: it is {train.small_epochs} of {train.epochs}",
        ),
        ("train.finetune_from", train.finetune_from in (None, CHAMPION), f"null or {CHAMPION}"),
        ("train.finetune_epochs", train.finetune_epochs >= 1, "1 or more"),
        ("evaluate.repeats", 1 <= params.evaluate.repeats <= 20, "from 1 to 20"),
        ("train.precision", train.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
        ("evaluate.target_accuracy", 0 < params.evaluate.target_accuracy <= 1, "more than 0, at most 1"),
        ("evaluate.false_alarms", 0 < params.evaluate.false_alarms < 1, "between 0 and 1"),
        ("export.quantize", params.export.quantize in QUANTIZE, f"one of {', '.join(QUANTIZE)}"),
        ("export.tolerance", 0 <= params.export.tolerance < 1, "from 0 to less than 1"),
        ("train.accelerator", train.accelerator in ACCELERATORS, f"one of {', '.join(ACCELERATORS)}"),
    ]
    for key, holds, expected in rules:
        if not holds:
            raise StepFailed(f"params.yaml: `{key}` should be {expected}")
    if split.group_by is not None and not split.group_by.endswith(".csv"):
        try:
            re.compile(split.group_by)
        except re.error as error:
            raise StepFailed(f"params.yaml: `split.group_by` is no regular expression: {error}") from None


def _is_store(store: str | None) -> bool:
    return store is None or bool(re.fullmatch(r"s3://[^/\s]+(/\S*)?", store))


def _leaves_some_out(params: Params) -> bool:
    """Whether plain ``ddp`` would wait for gradients that a held backbone does not have."""
    return params.train.strategy == "ddp" and params.train.processes > 1 and params.model.freeze_epochs > 0
