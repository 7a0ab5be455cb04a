"""What `plantops history`, `show`, `diff` and `verify` tell a person, or a machine as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from plantops import effort, ledger, lock, measures, recall, verify
from plantops.config import Config
from plantops.console import Console
from plantops.errors import SetupError, StepFailed
from plantops.store import Release, Store

_COLOURS = {verify.OK: "green", verify.DIFFERS: "red", verify.UNKNOWN: "yellow"}


def history(config: Config, console: Console, limit: int, as_json: bool) -> None:
    """The newest runs: when, by what and whom, how they ended, how long each step took."""
    with recall.look(config) as store:
        found = ledger.history(store, limit, bool(lock.holder(config.state)))
    if as_json:
        console.json(found)
        return
    if not found:
        console.say("nothing was run yet: plantops run")
    for one in found:
        steps = "  ".join(f"{name} {seconds:.1f}" for name, seconds in one["steps"].items() if seconds is not None)
        by = _begun(one)
        took = "" if one["seconds"] is None else f"{one['seconds']:.0f} s"
        line = f"{one['id']}  {_minute(one['started'])}  {by:<18} {one['state']:<11} {took:>7}  {one['release'] or ''}"
        console.say(line.rstrip(), "green" if one["state"] == "released" else "")
        if steps:
            console.say(f"    {steps}", "grey")


def show(config: Config, console: Console, name: str | None, as_json: bool) -> None:
    """A release, or a run; the release in service by default. Raises SetupError when there is none of that name."""
    with recall.look(config) as store:
        found = store.release(name) if name else store.in_service()
        if found:
            facts, tell = ledger.release(config, store, found), _release
        elif name and (run := store.run(name, bool(lock.holder(config.state)))):
            facts, tell = ledger.run(config, store, run), _run
        elif name:
            raise SetupError(f"no release is called {name}, and no run", "plantops releases; plantops history")
        else:
            raise SetupError("nothing is in service", "plantops releases")
    if as_json:
        console.json(facts)
    else:
        tell(facts, console)


def diff(config: Config, console: Console, one: str, other: str, as_json: bool) -> None:
    """What differs between two releases. Raises SetupError when one is unknown or gone."""
    with recall.look(config) as store:
        facts = ledger.diff(config, _named(store, one), _named(store, other))
    if as_json:
        console.json(facts)
        return
    console.say(f"{facts['releases'][0]} → {facts['releases'][1]}", "bold")
    for name, photos in facts["classes"].items():
        if moved := _moved(photos):
            console.say(f"  data      {name}: {photos['photos'][0]} → {photos['photos'][1]} photos ({moved})")
    for title in ("params", "metrics", "verdict"):
        for key, (old, new) in facts[title].items():
            console.say(f"  {title:<9} {key}: {_value(old)} → {_value(new)}")
    if not (any(map(_moved, facts["classes"].values())) or facts["params"] or facts["metrics"] or facts["verdict"]):
        console.say("  the same photos, parameters, scores and verdict")


def verified(config: Config, console: Console, as_json: bool) -> None:
    """Whether all is as the store says. Raises StepFailed when something is not, or could not be asked."""
    with recall.look(config) as store:
        checks = verify.verify(config, store)
    if as_json:
        console.json([asdict(one) for one in checks])
    else:
        for one in checks:
            console.say(f"{console.paint(f'{one.state:<8}', _COLOURS[one.state])} {one.what:<10}  {one.says}")
            if one.remedy:
                console.say(f"                     try: {one.remedy}")
    if wrong := [one for one in checks if one.state != verify.OK]:
        raise StepFailed(f"not as the store says: {', '.join(one.what for one in wrong)}", wrong[0].remedy)


def _named(store: Store, name: str) -> Release:
    found = store.release(name)
    if found is None:
        raise SetupError(f"no release, or more than one, begins with {name}", "plantops releases")
    return found


def _release(facts: dict[str, Any], console: Console) -> None:
    drawn = " (drawn sample data: it knows nothing about real plants)" if facts["sample_data"] else ""
    console.say("  ".join(filter(None, (facts["id"], facts["state"]))) + drawn, "green")
    by = f", {_begun(facts)}" if facts["trigger"] else ""
    _line(console, "made", f"{_minute(facts['created'])} by run {facts['run']}{by}")
    dirty = " and uncommitted changes" if facts["uncommitted"] else ""
    _line(console, "commit", f"{(facts['commit'] or 'unknown')[:12]} on {facts['branch']}{dirty}")
    _line(console, "data", f"{sum(facts['classes'].values())} photos of {len(facts['classes'])} classes")
    if took := effort.sentence(facts["training"]):
        _line(console, "training", took)
    for key, one in measures.MAIN.items():
        if key in facts["metrics"]:
            _line(console, one.title, f"{facts['metrics'][key]:.3f}")
    _verdict(facts["verdict"], console)
    if facts["image_tag"]:
        _line(console, "image", facts["image_tag"])
    for one in facts["services"]:
        left = f", in place of {one['replaced']}" if one["replaced"] else ""
        _line(console, "in service", f"{_minute(one['at'])} by {one['reason']}{left}")
    for key in ("misbehaves", "drifted"):
        if facts[key]:
            _line(console, key, facts[key])
    for sentence in facts["changed"]:
        _line(console, "because of", sentence)
    for name, path in facts["reports"].items() or {"reports": "none were kept with it"}.items():
        _line(console, name.replace("_", " "), path)
    _line(console, "bundle", facts["folder"])


def _run(facts: dict[str, Any], console: Console) -> None:
    console.say("  ".join(filter(None, (f"run {facts['id']}", facts["state"], facts["release"]))), "green")
    _line(console, "began", f"{_minute(facts['started'])}, {_begun(facts)}")
    for step in facts["steps"]:
        took = step["state"] if step["seconds"] is None else f"{step['seconds']:.1f} s"
        _line(console, step["name"], f"{took:>9}  {step['note'] or ''}".rstrip())
    _verdict(facts["verdict"], console)
    if facts["error"]:
        _line(console, "error", facts["error"])


def _verdict(verdict: dict[str, Any] | None, console: Console) -> None:
    if not verdict:
        return
    against = f", against {verdict['against']}" if verdict.get("against") else ""
    _line(console, "verdict", f"{verdict.get('outcome')}{against}")
    for one in verdict.get("findings", []):
        if one["state"] == "failed":
            _line(console, "", one["sentence"])
    if anyway := verdict.get("accepted_anyway"):
        _line(console, "", f"accepted anyway by {anyway['user']}: {anyway['reason']}")


def _begun(facts: dict[str, Any]) -> str:
    """What began a run, and who."""
    return f"{facts['trigger']} ({facts['by']})" if facts["by"] else str(facts["trigger"])


def _line(console: Console, title: str, text: str) -> None:
    console.say(f"  {title:<17} {text}")


def _moved(photos: dict[str, Any]) -> str:
    words = {"added": "came", "removed": "went", "other_split": "in another split"}
    return ", ".join(f"{photos[key]} {word}" for key, word in words.items() if photos[key])


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)


def _minute(when: str) -> str:
    return when[:16].replace("T", " ")
