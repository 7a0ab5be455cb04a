"""What happened, in a few words for people who are not looking: the numbers that matter, and where to look."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from plantops import judgement, store
from plantops.config import Config
from plantops.errors import redacted
from plantops.gate import Verdict
from plantops.notify import News
from plantops.store import Release, now
from plantops.tracking import reach

_EVENTS = {
    store.RELEASED: "released", store.ACCEPTED: "succeeded", store.UNCHANGED: "succeeded", store.REFUSED: "refused",
    store.FAILED: "failed",
}  # fmt: skip
_LINES, _WIDTH = 6, 300
_LAST = 3  # lines of a failure, besides its first: what a program says last is mostly why it ended
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # neither the environment of a hook nor every receiver takes these


def started(config: Config, run: str, why: list[str]) -> News:
    """A run has begun."""
    return News("started", run, config.project, f"{config.project}: run {run} started", _short(why), run)


def ended(
    config: Config, run: str, state: str, release: Release | None, verdict: Verdict | None, error: str, api: str
) -> News | None:
    """How a run ended, by its ``state`` in the store; None of an interrupted one: whoever did that knows."""
    event = _EVENTS.get(state)
    if event is None:
        return None
    name = release.id if release else ""
    title = {
        store.RELEASED: f"{name} is in service",
        store.ACCEPTED: f"{name} accepted, not deployed",
        store.UNCHANGED: f"nothing new, {name} stays in service",
        store.REFUSED: "the gate did not accept the model",
        store.FAILED: f"run {run} failed",
    }[state]
    failed = _ends(error)
    lines = [*_judged(verdict, state), *_drawn(release), *([] if state == store.REFUSED else failed)]
    more = [] if state in (store.RELEASED, store.ACCEPTED, store.UNCHANGED) else [f"less {_log(config, run)}"]
    links = {"api": f"{api}/docs"} if state == store.RELEASED else {}
    if reach.is_server(config.mlflow.tracking_uri):
        links["mlflow"] = redacted(config.mlflow.tracking_uri)
    return News(
        event, run, config.project, f"{config.project}: {title}", (*_short(lines or failed), *more), run,
        name, _numbers(verdict), links,
    )  # fmt: skip


def died(config: Config, run: store.Run) -> News:
    """A run whose process ended without a word, found by the next."""
    title = f"{config.project}: run {run.id} failed"
    return News("failed", run.id, config.project, title, ("its process was killed, or the power went",), run.id)


def rolled_back(config: Config, target: Release, left: Release | None, api: str, why: Sequence[str] = ()) -> News:
    """A person went back to an older release; or plantops did by itself, and says ``why``."""
    at, title = now(), f"{config.project}: rolled back{' by itself' if why else ''} to {target.id}"
    lines = (*([f"from {left.id}"] if left else []), *_short(list(why)), *_drawn(target))
    return News("rolled_back", at, config.project, title, lines, "", target.id, {}, {"api": f"{api}/docs"}, at)


def misbehaves(config: Config, release: str, why: Sequence[str]) -> News:
    """A new release answers worse than the one before it did, and stays: a person decides."""
    title = f"{config.project}: {release} answers worse than the release before it"
    return News("misbehaves", release, config.project, title, (*_short(list(why)), "plantops rollback"), "", release)


def drifted(config: Config, release: str, how: Sequence[str], then: str) -> News:
    """The photos of late are not like those that the release in service learned from."""
    title = f"{config.project}: the photos have changed"
    return News("drifted", release, config.project, title, (*_short(list(how)), then), "", release)


def watch_stopped(config: Config, since: str, why: str) -> News:
    """`plantops watch` ends: new photos are not noticed any more."""
    lines = (why, "new photos are not noticed until it is started again: plantops watch")
    return News("watch_stopped", since, config.project, f"{config.project}: watch stopped", lines)


def trial(config: Config) -> News:
    """What `plantops notify --test` sends."""
    title = f"{config.project}: a test"
    return News("test", now(), config.project, title, ("plantops notify --test sent this; nothing happened",))


def _judged(verdict: Verdict | None, state: str) -> list[str]:
    if verdict is None:
        return []
    if state == store.REFUSED:
        return [*verdict.reasons, judgement.summary(verdict)]
    said = [judgement.summary(verdict)]
    if verdict.overruled:
        said.append(f"accepted anyway by {verdict.overruled.user}: {verdict.overruled.reason}")
    return said


def _numbers(verdict: Verdict | None) -> dict[str, float]:
    """The scores, and how accuracy differs from the champion's on the photos that both are judged on."""
    if verdict is None:
        return {}
    found = {one.rule: one.value for one in verdict.findings if one.rule in ("accuracy", "macro_f1")}
    for one in verdict.findings:
        if one.rule.startswith("accuracy against") and one.difference is not None:
            found["accuracy_difference"] = one.difference
    return {name: value for name, value in found.items() if value is not None}


def _drawn(release: Release | None) -> list[str]:
    return ["drawn sample data: it knows nothing about real plants"] if release and release.sample_data else []


def _ends(error: str) -> list[str]:
    """The first line of a failure, and the last ones."""
    lines = [one for one in error.splitlines() if one.strip()]
    left = len(lines) - 1 - _LAST
    return [lines[0], f"… {left} more lines", *lines[-_LAST:]] if left > 1 else lines


def _short(lines: list[str]) -> tuple[str, ...]:
    stripped = [text for one in lines if (text := _plain(one))]
    shown = [one if len(one) <= _WIDTH else f"{one[: _WIDTH - 1]}…" for one in stripped[:_LINES]]
    left = len(stripped) - len(shown)
    return (*shown, *([f"… and {left} more"] if left else []))


def _plain(line: str) -> str:
    """What any receiver takes: names of files may be in any encoding, and programs say any byte."""
    return _CONTROL.sub("", line.encode("utf-8", "replace").decode()).strip()


def _log(config: Config, run: str) -> Path:
    return (config.state / "logs" / f"{run}.log").relative_to(config.root)
