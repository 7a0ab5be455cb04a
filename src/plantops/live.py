"""`plantops status --live`: the figures of the API's dashboard in the terminal, from its own `/metrics`.

Rates and shares are differences between two looks. Counters that began anew in between (another worker, another
release) are told by when their process started; then all that they have is counted, since then.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from plantops import deploy
from plantops.config import Config
from plantops.console import Console
from plantops.errors import StepFailed

EVERY_S = 2.0
_SPAN_S = 60.0  # what is shown is of the last so many seconds
_SHOWN = 5
_NO_TRAFFIC = ("/health", "/health/live", "/health/ready", "/metrics")


@dataclass(frozen=True)
class Counts:
    """What `/metrics` said ``at`` a time (seconds since the epoch), of a process that ``began`` at another.

    ``latency``: requests to /predict by the upper bound of their seconds, each bucket holding the ones before it.
    """

    at: float
    began: float
    release: str = ""
    statuses: Mapping[str, float] = field(default_factory=dict)
    latency: Mapping[float, float] = field(default_factory=dict)
    classes: Mapping[str, float] = field(default_factory=dict)
    sums: Mapping[str, float] = field(default_factory=dict)
    gauges: Mapping[str, float] = field(default_factory=dict)
    drift: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str, at: float) -> Self:
        """Read the exposition format of Prometheus."""
        from prometheus_client.parser import text_string_to_metric_families

        statuses, classes, latency = Counter[str](), Counter[str](), Counter[float]()
        plain, drift, release = defaultdict[str, float](float), dict[str, float](), ""
        for one in (sample for family in text_string_to_metric_families(text) for sample in family.samples):
            labels, path = one.labels, one.labels.get("endpoint", "")
            if one.name == "api_requests_total" and path not in _NO_TRAFFIC:
                statuses[labels["status"]] += one.value
            elif one.name == "api_request_duration_seconds_bucket" and path.startswith("/predict"):
                latency[float(labels["le"])] += one.value
            elif one.name == "predictions_by_class_total":
                classes[labels["class_name"]] += one.value
            elif one.name == "plantops_drift_windows_in_a_row":
                drift[labels["aspect"]] = max(one.value, drift.get(labels["aspect"], 0))
            elif one.name == "model_info":
                release = labels.get("release", "")
            elif not labels:
                plain[one.name] = one.value
        sums = {
            "photos": plain["prediction_confidence_count"],
            "confidence": plain["prediction_confidence_sum"],
            "unsure": plain["predictions_unsure_total"],
            "unlike": plain["predictions_unlike_total"],
        }
        gauges = {"in_work": plain["api_photos_in_work"], "limit": plain["api_photos_in_work_limit"]}
        began = plain["process_start_time_seconds"]
        return cls(at, began, release, statuses, latency, classes, sums, gauges, drift)

    def since(self, before: Self | None) -> Figures:
        """What happened between two looks; since the process began without an earlier one of that process."""
        if before is None or before.began != self.began or before.at >= self.at:
            before = type(self)(self.began, self.began)
        seconds = max(self.at - before.at, 1e-9)
        statuses, classes = _more(self.statuses, before.statuses), _more(self.classes, before.classes)
        sums, latency = _more(self.sums, before.sums), _more(self.latency, before.latency)
        asked, photos = sum(statuses.values()), sums.get("photos", 0)
        away = statuses.get("503", 0)
        wrong = sum(count for status, count in statuses.items() if status.startswith("5")) - away

        def share(count: float, of: float) -> float | None:
            return count / of if of else None

        most = sorted(classes.items(), key=lambda one: (-one[1], one[0]))[:_SHOWN]
        return Figures(
            self.release, seconds, asked / seconds, share(wrong, asked), share(away, asked),
            quantile(latency, 0.5), quantile(latency, 0.99),
            int(self.gauges.get("in_work", 0)), int(self.gauges.get("limit", 0)), photos / seconds,
            share(sums.get("confidence", 0), photos), share(sums.get("unsure", 0), photos),
            share(sums.get("unlike", 0), photos), {name: count / photos for name, count in most if count and photos},
            [aspect for aspect, row in self.drift.items() if row >= 2] if self.drift else None,
        )  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """What is shown, of the last ``seconds``: rates a second, shares 0..1 (None: of nothing), latencies in seconds.

    ``errors``: server errors but 503; ``turned_away``: 503. ``drift``: aspects over their limit two windows in
    a row; None where no window is full.
    """

    release: str
    seconds: float
    requests_per_second: float
    errors: float | None
    turned_away: float | None
    p50_s: float | None
    p99_s: float | None
    in_work: int
    limit: int
    photos_per_second: float
    confidence: float | None
    unsure: float | None
    unlike: float | None
    classes: dict[str, float]
    drift: list[str] | None

    def lines(self) -> list[str]:
        """For a person."""
        drift = "no window is full" if self.drift is None else ", ".join(self.drift) or "none"
        classes = "   ".join(f"{name} {share:.0%}" for name, share in self.classes.items())
        return [
            f"release     {self.release or 'none'}",
            f"requests    {self.requests_per_second:.1f}/s   errors {_percent(self.errors)}   "
            f"turned away {_percent(self.turned_away)}   (last {_span(self.seconds)})",
            f"latency     p50 {_ms(self.p50_s)}   p99 {_ms(self.p99_s)}",
            f"in work     {self.in_work} of {self.limit} photos",
            f"photos      {self.photos_per_second:.1f}/s   confidence {_percent(self.confidence)}   "
            f"unsure {_percent(self.unsure)}   unlike {_percent(self.unlike)}",
            f"drift       {drift}",
            f"answers     {classes or 'none'}",
        ]


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """Of a histogram (upper bound to count, each with those below), as Prometheus' histogram_quantile interpolates."""
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0
    if not total:
        return None
    low, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= share * total:
            return (
                low if math.isinf(bound) else low + (bound - low) * (share * total - below) / (buckets[bound] - below)
            )
        low, below = bound, buckets[bound]
    return low


def show(config: Config, console: Console, as_json: bool) -> None:
    """Look over and over until Ctrl-C; once where nobody watches a terminal. Raises StepFailed when that look fails."""
    backend = deploy.get(config)
    if as_json or not console.terminal:
        figures = _look(backend).since(None)
        if as_json:
            console.json(asdict(figures))
        else:
            console.say("\n".join(figures.lines()))
        return
    try:
        _keep(backend, console)
    except KeyboardInterrupt:
        return


def _keep(backend: deploy.Backend, console: Console) -> None:
    from rich.console import Console as Screen
    from rich.live import Live
    from rich.text import Text

    looks = deque[Counts](maxlen=int(_SPAN_S / EVERY_S) + 1)
    with Live(console=Screen(file=console.out), auto_refresh=False) as live:
        while True:
            live.update(Text("\n".join([*_frame(backend, looks), "", "Ctrl-C ends this"])), refresh=True)
            time.sleep(EVERY_S)


def _frame(backend: deploy.Backend, looks: deque[Counts]) -> list[str]:
    """The lines of one look, which joins the ones before."""
    try:
        looks.append(_look(backend))
    except StepFailed as error:
        looks.clear()
        return [f"error: {error.message}", f"  try: {error.hint}"]
    while looks[0].began != looks[-1].began:
        looks.popleft()
    return looks[-1].since(looks[0]).lines()


def _look(backend: deploy.Backend) -> Counts:
    try:
        return Counts.of(backend.metrics(), time.time())
    except StepFailed as error:
        raise StepFailed(error.message, error.hint or "plantops up, if it is not running") from None


def _more(now: Mapping[Any, float], before: Mapping[Any, float]) -> dict[Any, float]:
    return {key: max(value - before.get(key, 0), 0) for key, value in now.items()}


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.0f} ms"


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 300 else f"{seconds / 60:.0f} min, since it started"
