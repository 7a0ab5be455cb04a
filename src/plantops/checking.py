"""`plantops check`: is there something to run, and why? Changes nothing, works without write access."""

from __future__ import annotations

import os
import time
from dataclasses import replace

from plantops import lock, plan, recall
from plantops.config import Config
from plantops.console import Console
from plantops.store import FILE, Store


def look(config: Config, deep: bool = False) -> plan.Plan:
    """The plan of the project as it is now; ``deep`` with the photos themselves, the code and the gate's rules."""
    going_on = bool(lock.holder(config.state))
    if deep:
        return _deep(config, going_on)
    with recall.look(config) as store:
        return plan.make(config.root, store, going_on)


def _deep(config: Config, going_on: bool) -> plan.Plan:
    """What `plantops run` would find. Photos' hashes are kept where that is possible, so that none is read twice."""
    from plantops import deploy, dvc, pipeline, scan

    writable = os.access(config.state / FILE, os.W_OK) and os.access(config.state, os.W_OK)
    kept = writable and not recall.lost(config)
    with Store(config.state) if kept else recall.look(config) as store:
        todo = pipeline.due(config, store, deploy.get(config), going_on)
        loose = scan.loose(config.root, dvc.raw_folder(config.root), store, remember=kept)
    return replace(todo, loose=[one.what for one in loose])


def once(config: Config, console: Console, as_json: bool, deep: bool = False) -> bool:
    """Print what is due; says whether anything is."""
    todo = look(config, deep)
    if not as_json and (holder := lock.holder(config.state)):
        console.say(f"a run is going: {holder}", "yellow")
    _show(todo, config, console, as_json)
    return todo.waiting


def keep(config: Config, console: Console, interval_s: float, as_json: bool, deep: bool = False) -> None:
    """Print at first, and then whenever the answer changes. Never returns; runs nothing."""
    told = None
    while True:
        todo = look(config, deep)
        if todo.sentences() != told:
            told = todo.sentences()
            if not as_json:
                console.say(time.strftime("%H:%M:%S"), "grey")
            _show(todo, config, console, as_json)
        time.sleep(interval_s)


def _show(todo: plan.Plan, config: Config, console: Console, as_json: bool) -> None:
    if as_json:
        console.json(todo.to_dict())
        return
    for sentence in todo.sentences():
        console.say(sentence)
    if todo.broken:
        console.say(f"would run: nothing before {', '.join(todo.broken)} is mended")
    elif todo.loose and config.data.untracked == "refuse":
        console.say("would run: nothing while there are photos that DVC does not know as they are")
    elif todo.due:
        console.say(f"would run: {', '.join(todo.stages) or 'no stage; the release is judged and deployed'}")
    if todo.loose is None:
        console.say(f"not looked at: {plan.NOT_LOOKED_AT}", "grey")
