"""`.plantops/plantops.prom`: the same for Prometheus, in the text format that node_exporter's textfile collector takes.

Times are points in time, not ages, as Prometheus advises: `time() - plantops_watch_last_check_timestamp_seconds`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from plantops import whole
from plantops.store import Run, Store
from plantops.watch.heartbeat import RUNNING, Beat

FILE = "plantops.prom"


@dataclass(frozen=True)
class Facts:
    """What the store says that metrics tell."""

    last: Run | None
    last_by_watch: str
    outcomes: dict[str, int]
    release: str
    created: str
    in_service_since: str

    @classmethod
    def of(cls, store: Store) -> Facts:
        """Read them."""
        current, begun = store.in_service(), store.begun("watch", 1)
        return cls(
            store.last_run(), begun[0] if begun else "", store.outcomes(), current.id if current else "",
            current.created if current else "", store.in_service_since(),
        )  # fmt: skip


def write(folder: Path, beat: Beat, facts: Facts) -> None:
    """Write the metrics into the state ``folder``, in one rename. Raises OSError."""
    lines = [line for metric in _metrics(beat, facts) for line in metric]
    whole.write(folder / FILE, "\n".join(lines) + "\n")


def _metrics(beat: Beat, facts: Facts) -> Iterator[list[str]]:
    yield _gauge("plantops_watch_start_timestamp_seconds", "When watch was started.", _at(beat.since))
    yield _gauge("plantops_watch_last_check_timestamp_seconds", "When watch looked last.", _at(beat.checked))
    yield _gauge("plantops_watch_interval_seconds", "How often watch looks at least.", beat.interval_s)
    yield _gauge("plantops_watch_running", "Whether watch is in a run.", int(beat.state == RUNNING))
    yield _gauge("plantops_watch_waiting", "Whether something is due that watch may not run now.", int(bool(beat.why)))
    if facts.last_by_watch:
        name = "plantops_watch_last_run_timestamp_seconds"
        yield _gauge(name, "When the last run that watch began started.", _at(facts.last_by_watch))
    if facts.last:
        labels = {"state": facts.last.state, "run": facts.last.id, "trigger": facts.last.trigger}
        yield _gauge("plantops_last_run_info", "The newest run, whoever began it.", 1, labels)
        name = "plantops_last_run_start_timestamp_seconds"
        yield _gauge(name, "When the newest run started.", _at(facts.last.started))
    yield _family(
        "plantops_runs_total", "counter", "Runs that ended, by how they ended.",
        [({"state": state}, count) for state, count in sorted(facts.outcomes.items())],
    )  # fmt: skip
    if facts.release:
        yield _gauge("plantops_release_info", "The release in service.", 1, {"release": facts.release})
        name = "plantops_release_created_timestamp_seconds"
        yield _gauge(name, "When the release in service was made.", _at(facts.created))
        name = "plantops_release_in_service_timestamp_seconds"
        yield _gauge(name, "When it was put in service.", _at(facts.in_service_since))


def _gauge(name: str, what: str, value: float, labels: dict[str, str] | None = None) -> list[str]:
    return _family(name, "gauge", what, [(labels or {}, value)])


def _family(name: str, kind: str, what: str, samples: list[tuple[dict[str, str], float]]) -> list[str]:
    shown = [f"{name}{_labels(labels)} {value}" for labels, value in samples]
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}", *shown] if shown else []


def _labels(labels: dict[str, str]) -> str:
    pairs = [f'{name}="{_escaped(value)}"' for name, value in labels.items()]
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _at(when: str) -> float:
    """Seconds since 1970."""
    return datetime.fromisoformat(when).timestamp()
