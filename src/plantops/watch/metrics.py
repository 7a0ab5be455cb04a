"""`.plantops/metrics/plantops.prom`: the same for Prometheus, in the text format of node_exporter's textfile collector.

Times are points in time, not ages, as Prometheus advises: `time() - plantops_watch_last_check_timestamp_seconds`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from plantops import whole
from plantops.bundle import MANIFEST
from plantops.config import Config
from plantops.shelf import Shelf
from plantops.store import FAILED, REFUSED, Run, Store
from plantops.watch.heartbeat import ONCE, RUNNING, STOPPED, Beat

# In a folder of its own: the stack's Prometheus sees that folder, and nothing else of ours.
FILE = "metrics/plantops.prom"
_IN_A_ROW = 100


@dataclass(frozen=True)
class Facts:
    """What metrics tell of runs, releases and the disk.

    ``step_seconds``: of the last run. ``failed``, ``refused``: newest runs in a row that ended so. ``scores``: of the
    release in service. ``free_bytes``, ``wanted_bytes``: of the disk, as of now, and below which nothing runs.
    """

    last: Run | None
    last_by_watch: str
    outcomes: dict[str, int]
    release: str
    created: str
    in_service_since: str
    step_seconds: dict[str, float]
    verdicts: dict[str, int]
    failed: int
    refused: int
    scores: dict[str, float]
    free_bytes: float
    wanted_bytes: float

    @classmethod
    def of(cls, store: Store, config: Config) -> Facts:
        """Read them."""
        current, begun, last = store.in_service(), store.begun("watch", 1), store.last_run()
        ended = store.endings(_IN_A_ROW)
        return cls(
            last, begun[0] if begun else "", store.outcomes(), current.id if current else "",
            current.created if current else "", store.in_service_since(),
            {one.name: _at(one.ended) - _at(one.started) for one in store.steps(last.id) if one.ended} if last else {},
            store.verdicts(), _in_a_row(ended, FAILED), _in_a_row(ended, REFUSED),
            _scores(Shelf(config.models).release(current.id)) if current else {},
            shutil.disk_usage(config.root).free, 1e9 * config.disk.min_free_gb,
        )  # fmt: skip


def write(folder: Path, beat: Beat, facts: Facts) -> None:
    """Write the metrics into the state ``folder``, in one rename, readable by all. Raises OSError."""
    lines = [line for metric in (*_metrics(beat, facts), *_pipeline(facts)) for line in metric]
    whole.write(folder / FILE, "\n".join(lines) + "\n")
    (folder / FILE).chmod(0o644)  # Prometheus reads it as a user of its own, under a strict umask, too
    (folder / FILE).parent.chmod(0o755)


def _metrics(beat: Beat, facts: Facts) -> Iterator[list[str]]:
    yield _gauge("plantops_watch_start_timestamp_seconds", "When watch was started.", _at(beat.since))
    yield _gauge("plantops_watch_last_check_timestamp_seconds", "When watch looked last.", _at(beat.checked))
    yield _gauge("plantops_watch_interval_seconds", "How often watch looks at least.", beat.interval_s)
    yield _gauge("plantops_watch_running", "Whether watch is in a run.", int(beat.state == RUNNING))
    gone = beat.state in (STOPPED, ONCE)
    yield _gauge("plantops_watch_stopped", "Whether watch was ended, or was one look only.", int(gone))
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


def _pipeline(facts: Facts) -> Iterator[list[str]]:
    yield _family(
        "plantops_last_run_step_seconds", "gauge", "How long each step of the newest run took.",
        [({"step": step}, seconds) for step, seconds in facts.step_seconds.items()],
    )  # fmt: skip
    yield _family(
        "plantops_gate_verdicts_total", "counter", "What the gate said of candidates.",
        [({"verdict": verdict}, count) for verdict, count in sorted(facts.verdicts.items())],
    )  # fmt: skip
    yield _gauge("plantops_failed_runs_in_a_row", "The newest runs that failed, without another between.", facts.failed)
    yield _gauge("plantops_refused_runs_in_a_row", "The newest runs that the gate refused.", facts.refused)
    yield _family(
        "plantops_release_score", "gauge", "How good the release in service was when it was made.",
        [({"score": name}, value) for name, value in sorted(facts.scores.items())],
    )  # fmt: skip
    yield _gauge("plantops_disk_free_bytes", "Free on the project's disk.", facts.free_bytes)
    yield _gauge("plantops_disk_wanted_bytes", "Below this much free nothing is run.", facts.wanted_bytes)


def _in_a_row(states: list[str], wanted: str) -> int:
    """How many of the first states are the one wanted."""
    return next((n for n, state in enumerate(states) if state != wanted), len(states))


def _scores(release: Path) -> dict[str, float]:
    """The plain numbers among a release's scores; none where its bundle is gone."""
    try:
        metrics: Mapping[str, Any] = json.loads((release / MANIFEST).read_text(encoding="utf-8"))["metrics"]
    except (OSError, ValueError, KeyError):
        return {}
    return {name: value for name, value in metrics.items() if isinstance(value, (int, float))}


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
