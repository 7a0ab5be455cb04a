"""The numbers on `/metrics`, by the names that the dashboards use."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

from plantops.serve.looked import Served

ROUTES = (
    "/", "/predict", "/predict_batch", "/feedback", "/classes", "/model/info", "/health", "/health/live",
    "/health/ready", "/metrics", "/docs", "/openapi.json",
)  # fmt: skip
_METHODS = ("GET", "HEAD", "POST", "OPTIONS")
_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SHARES = tuple(step / 10 for step in range(1, 11))


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

    def predicted(self, name: str, confidence: float, seconds: float) -> None:
        """Count one prediction."""
        self.by_class.labels(name).inc()
        self.confidence.observe(confidence)
        self.inference.observe(seconds)

    def answered(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count one request. Unknown paths share a label, so that a scanner cannot fill the memory."""
        endpoint = path if path in ROUTES else "other"
        method = method if method in _METHODS else "other"
        self.requests.labels(method, endpoint, str(status)).inc()
        self.duration.labels(method, endpoint).observe(seconds)

    def text(self) -> bytes:
        """The exposition format of Prometheus."""
        answer: bytes = generate_latest(self.registry)
        return answer
