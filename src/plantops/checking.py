"""`plantops check`: is there something to run, and why? Changes nothing, works without write access."""

from __future__ import annotations

import time

from plantops import lock, plan
from plantops.config import Config
from plantops.console import Console
from plantops.store import Store


def look(config: Config) -> plan.Plan:
    """The plan of the project as it is now."""
    with Store(config.state, readonly=True) as store:
        return plan.make(config.root, store, going_on=bool(lock.holder(config.state)))


def once(config: Config, console: Console, as_json: bool) -> bool:
    """Print what is due; says whether anything is."""
    todo = look(config)
    if not as_json and (holder := lock.holder(config.state)):
        console.say(f"a run is going: {holder}", "yellow")
    _show(todo, console, as_json)
    return todo.due


def keep(config: Config, console: Console, interval_s: float, as_json: bool) -> None:
    """Print at first, and then whenever the answer changes. Never returns; runs nothing."""
    told = None
    while True:
        todo = look(config)
        if todo.sentences() != told:
            told = todo.sentences()
            if not as_json:
                console.say(time.strftime("%H:%M:%S"), "grey")
            _show(todo, console, as_json)
        time.sleep(interval_s)


def _show(todo: plan.Plan, console: Console, as_json: bool) -> None:
    if as_json:
        console.json(todo.to_dict())
        return
    for sentence in todo.sentences():
        console.say(sentence)
    if todo.due:
        console.say(f"would run: {', '.join(todo.stages) or 'no stage; the release is judged and deployed'}")
    console.say(f"not looked at: {plan.NOT_LOOKED_AT}", "grey")
