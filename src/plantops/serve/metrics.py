"""The numbers on `/metrics`, by the names that the dashboards use. Every label has a bounded set of values."""

from __future__ import annotations

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

from plantops.drift import ASPECTS
from plantops.photo import FORMATS
from plantops.serve.looked import Input, Served
from plantops.serve.windows import Window

ROUTES = (
    "/", "/predict", "/predict_batch", "/feedback", "/classes", "/model/info", "/health", "/health/live",
    "/health/ready", "/metrics", "/docs", "/openapi.json",
)  # fmt: skip
_METHODS = ("GET", "HEAD", "POST", "OPTIONS")
_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SHARES = tuple(step / 10 for step in range(1, 11))
_BATCHES = (1, 2, 4, 8, 16, 32, 64)
_BYTES = (1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7)
_MEGAPIXELS = (0.03, 0.1, 0.3, 1, 3, 6, 12, 24, 50)
_ASPECTS = (1.05, 1.2, 1.4, 1.6, 1.9, 2.5, 4)
_BRIGHTNESS = (32, 64, 96, 128, 160, 192, 224, 256)


class Metrics:
    """One worker's numbers, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "api_requests_total", "Requests answered", ("method", "endpoint", "status"), registry=self.registry
        )
        self.duration = Histogram(
            "api_request_duration_seconds", "Time from header to end of answer", ("method", "endpoint"),
            buckets=_LATENCY, registry=self.registry,
        )  # fmt: skip
        self.active = Gauge("api_active_requests", "Requests being worked on", registry=self.registry)
        self.inference = Histogram(
            "inference_latency_seconds", "Time in the model, a photo", buckets=_LATENCY, registry=self.registry
        )
        self.confidence = Histogram(
            "prediction_confidence", "Probability of the predicted class", buckets=_SHARES, registry=self.registry
        )
        self.by_class = Counter(
            "predictions_by_class_total", "Predictions", ("class_name",), registry=self.registry
        )  # fmt: skip
        self.model = Info("model", "The model in service", registry=self.registry)
        self._add_load()
        self._add_doubts()
        self._add_inputs()

    def _add_load(self) -> None:
        self.working = Gauge("api_photos_in_work", "Photos that wait or are worked on", registry=self.registry)
        self.most = Gauge(
            "api_photos_in_work_limit", "So many, and new ones are turned away with 503", registry=self.registry
        )
        self.batch = Histogram("api_batch_photos", "Photos in a request", buckets=_BATCHES, registry=self.registry)

    def _add_doubts(self) -> None:
        self.unsure = Counter("predictions_unsure", "Answers that the model is unsure of", registry=self.registry)
        self.unlike = Counter("predictions_unlike", "Photos unlike all it learned from", registry=self.registry)
        labels = ("aspect", "photos")
        self.drift = Gauge(
            "plantops_drift_ratio", "The last window's statistic, its limit being 1", labels, registry=self.registry
        )
        self.drifting = Gauge(
            "plantops_drift_windows_in_a_row", "Windows over the limit, one after the other", labels,
            registry=self.registry,
        )  # fmt: skip
        self.class_drift = Gauge(
            "plantops_drift_class_ratio", "How far an answer's share was off in the last window, its limit being 1",
            ("class_name", "photos"), registry=self.registry,
        )  # fmt: skip
        self.windows = Counter("plantops_drift_windows", "Windows that are full", ("photos",), registry=self.registry)
        self.drift_rate = Gauge(
            "plantops_drift_false_alarm_rate", "Share of undrifted windows over a limit", registry=self.registry
        )

    def _add_inputs(self) -> None:
        def histogram(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, what, buckets=buckets, registry=self.registry)

        self.formats = Counter("photos_by_format", "Photos that were read", ("format",), registry=self.registry)
        self.refused = Counter("photos_refused", "Uploads that are no photos", registry=self.registry)
        self.bytes = histogram("photo_bytes", "Size of a photo's file", _BYTES)
        self.megapixels = histogram("photo_megapixels", "Pixels of a photo, in millions", _MEGAPIXELS)
        self.aspect = histogram("photo_aspect_ratio", "Longer side through shorter side", _ASPECTS)
        self.brightness = histogram("photo_brightness", "Mean of a photo's pixels, 0 to 255", _BRIGHTNESS)

    def loaded(self, predictor: Served) -> None:
        """Name the model, and show a zero for every class that was not predicted yet."""
        identity = predictor.identity
        self.model.info(
            {
                "release": identity.release,
                "digest": identity.digest,
                "version": identity.model_version or "",
                "sample_data": str(identity.sample_data).lower(),
                "classes": str(len(predictor.manifest.classes)),
            }
        )
        for name in predictor.manifest.classes:
            self.by_class.labels(name)
        for kind in FORMATS:
            self.formats.labels(kind)
        if usual := predictor.usual:
            self.drift_rate.set(usual.rate)
            for size in usual.sizes:
                self.windows.labels(str(size))

    def predicted(self, name: str, confidence: float, seconds: float, doubts: tuple[bool | None, bool | None]) -> None:
        """Count one prediction; ``doubts``: whether it is unsure, and whether the photo is unlike."""
        self.by_class.labels(name).inc()
        self.confidence.observe(confidence)
        self.inference.observe(seconds)
        for counter, doubted in zip((self.unsure, self.unlike), doubts, strict=True):
            counter.inc(int(bool(doubted)))

    def read(self, photo: Input) -> None:
        """Count a photo that could be read."""
        long, short = max(photo.sides), max(1, min(photo.sides))
        self.formats.labels(photo.format if photo.format in FORMATS else "other").inc()
        self.bytes.observe(photo.bytes)
        self.megapixels.observe(long * short / 1e6)
        self.aspect.observe(long / short)
        self.brightness.observe(photo.brightness)

    def full(self, window: Window, classes: tuple[str, ...]) -> None:
        """Show how a window ended."""
        for name, ratio in zip(classes, window.classes, strict=True):
            self.class_drift.labels(name, str(window.size)).set(ratio)
        for aspect, ratio, row in zip(ASPECTS, window.over, window.row, strict=True):
            self.drift.labels(aspect, str(window.size)).set(ratio)
            self.drifting.labels(aspect, str(window.size)).set(row)
        self.windows.labels(str(window.size)).inc()

    def answered(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count one request. Unknown paths share a label, so that a scanner cannot fill the memory."""
        endpoint = path if path in ROUTES else "other"
        method = method if method in _METHODS else "other"
        requests, duration = self._of(method, endpoint, str(status))
        requests.inc()
        duration.observe(seconds)

    @cache  # noqa: B019  one object for as long as the process lives, and few values
    def _of(self, method: str, endpoint: str, status: str) -> tuple[Counter, Histogram]:
        return self.requests.labels(method, endpoint, status), self.duration.labels(method, endpoint)

    def text(self) -> bytes:
        """The exposition format of Prometheus."""
        answer: bytes = generate_latest(self.registry)
        return answer
