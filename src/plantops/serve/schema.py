"""The JSON of the API, as `/docs` shows it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from plantops.serve import examples


class Shape(BaseModel):
    """Fields may begin with ``model_``."""

    model_config = ConfigDict(protected_namespaces=(), populate_by_name=True)


class ClassScore(Shape):
    """A class and its probability, 0..1."""

    name: str = Field(validation_alias="class", serialization_alias="class")
    confidence: float


class ModelInfo(Shape):
    """Which model answered."""

    release: str
    digest: str
    sample_data: bool = Field(description="true: trained on drawn leaves, of no use for real plants")
    model_version: str | None = Field(description="version in the MLflow Model Registry")
    backbone: str | None


class Explanation(Shape):
    """Where the model looked, or the ``reason`` why that cannot be told."""

    class_name: str | None = Field(
        default=None, validation_alias="class", serialization_alias="class", description="whose evidence is shown"
    )
    area: str | None = Field(
        default=None,
        description="what the map covers, on the photo as a person sees it: `crop`, the square in the middle of it; "
        "`squash`, all of it",
    )
    heatmap: list[list[float]] | None = Field(
        default=None,
        description="rows from the top, each from the left: 1 where most speaks for the class, 0 where nothing does",
    )
    reason: str | None = None


class Prediction(Shape):
    """The answer for one photo."""

    model_config = ConfigDict(json_schema_extra=examples.shown(examples.PREDICTION))

    request_id: str = Field(description="also in the header `X-Request-ID`; `/feedback` asks for it")
    prediction: str
    confidence: float
    unsure: bool | None = Field(
        description="true: too little confidence, better take no class from it. null: this model cannot tell"
    )
    unlike: bool | None = Field(
        description="true: looks like nothing that the model was trained on, so it knows nothing of it. "
        "null: this model cannot tell"
    )
    inference_time: float = Field(description="seconds in the model")
    top5_predictions: list[ClassScore] = Field(description="likeliest first; `top` of them, five by default")
    model_info: ModelInfo
    timestamp: str
    explanation: Explanation | None = Field(default=None, description="with `?explain=true` only")


class BatchItem(Prediction):
    """The answer for one photo of several."""

    model_config = ConfigDict(json_schema_extra=examples.shown(examples.ITEM))

    filename: str | None


class BatchError(Shape):
    """A photo of several that could not be used, and why."""

    filename: str | None
    error: str


class Batch(Shape):
    """The answers in the order of the photos."""

    model_config = ConfigDict(json_schema_extra=examples.shown(examples.BATCH))

    results: list[BatchItem | BatchError]
    total: int


class Opinion(Shape):
    """What a person says of an answer."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=examples.shown(examples.OPINION))

    request_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,79}$", description="of the answer")
    class_name: str = Field(
        alias="class", max_length=200, description="what the photo shows: a class, a new one, or `not a leaf`"
    )


class Thanks(Shape):
    """What was understood and written down."""

    model_config = ConfigDict(json_schema_extra=examples.shown(examples.THANKS))

    request_id: str
    class_name: str = Field(validation_alias="class", serialization_alias="class")
    new_class: bool = Field(description="the model in service does not know it")


class Classes(Shape):
    """What the model can tell apart."""

    model_config = ConfigDict(json_schema_extra=examples.shown(examples.CLASSES))

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
    feedback: bool = Field(description="whether `/feedback` is kept")
    keeps_photos: bool = Field(description="whether photos that the model is unsure of are kept")


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
    drift: list[str] | None = Field(
        default=None, description="how the photos of late differ from those it learned from; null: it cannot tell"
    )


class Liveness(Shape):
    """One word."""

    status: str


class Problem(Shape):
    """What went wrong, in words."""

    detail: str
