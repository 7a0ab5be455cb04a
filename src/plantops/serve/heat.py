"""Where the model looked: a heat map out of the graph's class-activation maps.

The mean of a class's map over rows and columns is its logit (Zhou et al. 2016, arXiv:1512.04150). The softmax does not
see what is added to all logits alike, so what speaks for a class is its map above the mean of all classes' maps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def heat(maps: NDArray[np.float32], index: int) -> NDArray[np.float64]:
    """0..1, shape (rows, columns): 1 where most speaks for the class, 0 where nothing does."""
    evidence = np.maximum(maps[index].astype(np.float64) - maps.mean(axis=0, dtype=np.float64), 0)
    shares: NDArray[np.float64] = evidence / (evidence.max() or 1.0)
    return shares.round(3)
