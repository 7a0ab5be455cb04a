"""MLflow's addresses are one for the whole process, and a test that leaves them set decides for those after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def mlflow_at(uri: str) -> Iterator[None]:
    """``mlflow.*`` speaks to ``uri`` inside, tracking and registry, and afterwards to what it spoke to before."""
    import mlflow
    from mlflow.tracking._model_registry import utils as registry
    from mlflow.tracking._tracking_service import utils as tracking

    with pytest.MonkeyPatch.context() as patch:
        # Setting what is set already notes what was there: variables of the modules, and of the environment.
        patch.setattr(tracking, "_tracking_uri", tracking._tracking_uri)
        patch.setattr(registry, "_registry_uri", registry._registry_uri)
        for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            patch.setenv(variable, uri)
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        yield
