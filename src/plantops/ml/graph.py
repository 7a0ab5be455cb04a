"""What the exported graph says of a photo: logits, and beside them where the model looked and what it saw.

``logits``     float32 (n, classes)
``embedding``  float32 (n, features): what the last layer decides on
``maps``       float32 (n, classes, rows, columns): class-activation maps (Zhou et al. 2016, arXiv:1512.04150), whose
               mean over rows and columns is the logits

Which of the last two a network has depends on how its head is made; the graph names those that it has.
"""

from __future__ import annotations

from plantops.bundle import EMBEDDING, LOGITS, MAPS
from plantops.ml.frameworks import torch

_TOLERANCE = 1e-4


class Graph(torch.nn.Module):  # type: ignore[misc]
    """``network`` taken apart, as far as it gives the same answers: ``outputs`` names what ``forward`` returns."""

    def __init__(self, network: torch.nn.Module, size: int) -> None:
        super().__init__()
        self.network = network.eval()
        self.outputs: tuple[str, ...] = (LOGITS,)
        if isinstance(network.get_classifier(), torch.nn.Linear):
            self.outputs = self._proven(torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1)))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Normalised images, float32 (n, 3, size, size), to the outputs in order."""
        if self.outputs == (LOGITS,):
            return (self.network(images),)
        return self._apart(images)[: len(self.outputs)]

    def _apart(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        head = self.network.get_classifier()
        features = self.network.forward_features(images)
        embedding = self.network.forward_head(features, pre_logits=True)
        apart = (head(embedding), embedding)
        if features.ndim != 4 or features.shape[1] != head.in_features:
            return apart
        return (*apart, torch.nn.functional.conv2d(features, head.weight[:, :, None, None], head.bias))

    def _proven(self, images: torch.Tensor) -> tuple[str, ...]:
        """The outputs that agree with the network's own answer."""
        with torch.inference_mode():
            right, apart = self.network(images), self._apart(images)
        if not torch.allclose(apart[0], right, atol=_TOLERANCE) or apart[1].ndim != 2:
            return (LOGITS,)
        if len(apart) == 3 and torch.allclose(apart[2].mean((2, 3)), right, atol=_TOLERANCE):
            return (LOGITS, EMBEDDING, MAPS)
        return (LOGITS, EMBEDDING)
