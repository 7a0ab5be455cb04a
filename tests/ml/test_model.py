"""A network that timm does not know is called that, whatever is asked of it first."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from plantops.errors import StepFailed
from plantops.ml.model import make, normalisation


@pytest.mark.ci
@pytest.mark.parametrize("ask", [normalisation, lambda name: make(name, classes=2, size=32)])
def test_a_backbone_that_timm_does_not_know(ask: Callable[[str], object]) -> None:
    with pytest.raises(StepFailed, match=r"timm knows no model\.backbone `resnet10`") as failed:
        ask("resnet10")
    assert "resnet10t" in failed.value.hint
