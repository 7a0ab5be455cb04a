"""The network as an ONNX file."""

from __future__ import annotations

import warnings
from pathlib import Path

from plantops.ml.files import fresh_file
from plantops.ml.frameworks import torch
from plantops.ml.graph import Graph
from plantops.ml.runtime import INPUT


def write_onnx(network: torch.nn.Module, size: int, path: Path) -> None:
    """Write ``network`` as float32 (n, 3, size, size) -> what :mod:`plantops.ml.graph` describes, dynamic n.

    Same weights, same bytes.

    The TorchScript exporter: it folds batch normalisation into the convolutions and writes nothing about the machine
    (the newer one puts stack traces with paths into every node), in a tenth of the time.
    """
    graph = Graph(network.to(memory_format=torch.contiguous_format), size).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            (torch.zeros(2, 3, size, size),),
            str(fresh_file(path)),
            input_names=[INPUT],
            output_names=list(graph.outputs),
            dynamic_axes={name: {0: "n"} for name in (INPUT, *graph.outputs)},
            dynamo=False,
        )
