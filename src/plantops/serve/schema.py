"""The JSON of the API, as `/docs` shows it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Shape(BaseModel):
    """Fields may begin with ``model_``."""

    model_config = ConfigDict(protected_namespaces=())


class ClassScore(Shape):
    """A class and its probability, 0..1."""

    name: str = Field(serialization_alias="class")
    confidence: float


class ModelInfo(Shape):
    """Which model answered."""

    release: str
    digest: str
    sample_data: bool = Field(description="true: trained on drawn leaves, of no use for real plants")
    model_version: str | None = Field(description="version in the MLflow Model Registry")
    backbone: str | None


class Prediction(Shape):
    """The answer for one photo."""

    prediction: str
    confidence: float
    inference_time: float = Field(description="seconds in the model")
    top5_predictions: list[ClassScore] = Field(description="likeliest first; `top` of them, five by default")
    model_info: ModelInfo
    timestamp: str


class BatchItem(Prediction):
    """The answer for one photo of several."""

    filename: str | None


class BatchError(Shape):
    """A photo of several that could not be used, and why."""

    filename: str | None
    error: str


class Batch(Shape):
    """The answers in the order of the photos."""

    results: list[BatchItem | BatchError]
    total: int


class Classes(Shape):
    """What the model can tell apart."""

    classes: list[str]
    num_classes: int


class ModelDetails(ModelInfo):
    """All that the bundle says about its model."""

    created: str | None
    commit: str | None
    mlflow_run: str | None
    num_classes: int
    preprocessing: dict[str, Any]
    temperature: float
    thresholds: dict[str, float]
    model: dict[str, Any]
    data: dict[str, Any]
    metrics: dict[str, Any]


class Health(Shape):
    """``healthy`` only when the bundle is loaded and its golden photos gave the checkpoint's answers."""

    status: str = Field(description="starting, healthy or failed")
    model_loaded: bool
    pid: int
    since: str = Field(description="when this status began, UTC")
    reason: str | None = Field(default=None, description="why it is not healthy")
    release: str | None = None
    digest: str | None = None
    model_version: str | None = None
    sample_data: bool | None = None
    classes: int | None = None
    golden_difference: float | None = Field(default=None, description="largest difference on the golden photos")


class Liveness(Shape):
    """One word."""

    status: str


class Problem(Shape):
    """What went wrong, in words."""

    detail: str
