"""torch, timm and Lightning, imported in the one order that works everywhere.

A torchvision built for CUDA beside a torch for CPUs cannot load its operators, and then even `import torchmetrics`,
Lightning and timm fail on `torchvision::nms`. Declaring the two operators first is enough for all that we use. Where
torchvision loads by itself, nothing is done. So every module here takes the three from this one:

    from plantops.ml.frameworks import lightning, timm, torch
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import torch

__all__ = ["torch"]
_NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_LATER = {"lightning": "lightning.pytorch", "timm": "timm"}


def declare_missing_operators() -> torch.library.Library | None:
    """Declare torchvision's operators where its own library does not load; None where nothing was needed."""
    spec = importlib.util.find_spec("torchvision")
    places = (spec.submodule_search_locations if spec else None) or []
    libraries = [library for place in places for library in Path(place).glob("_C*.so")]
    try:
        for library in libraries:
            torch.ops.load_library(str(library))
    except OSError:
        libraries = []
    if libraries or not places:
        return None
    declared = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        declared.define(name + _NMS)
    return declared


_DECLARED = declare_missing_operators()  # kept: the operators go when it goes


def __getattr__(name: str) -> Any:
    """Import timm and Lightning when they are first asked for; only training needs the latter (2 s)."""
    if name not in _LATER:
        raise AttributeError(name)
    return importlib.import_module(_LATER[name])
