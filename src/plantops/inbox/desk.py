"""`plantops inbox` itself: the list, or the page and then what DVC has to know."""

from __future__ import annotations

import shlex
from pathlib import Path

from plantops import dvc, lock, share
from plantops.config import Config
from plantops.console import Console
from plantops.errors import Busy, StepFailed
from plantops.inbox.box import Inbox
from plantops.inbox.server import Server
from plantops.store import Store


def show(config: Config, console: Console, as_json: bool) -> None:
    """What waits, oldest first."""
    waiting = Inbox(config).waiting()
    if as_json:
        console.json([one.to_dict() for one in waiting])
        return
    for one in waiting:
        answer = one.photo.answer
        guess = f"{answer.get('prediction', '?')} {answer.get('confidence', 0):.0%}"
        said = f"  people say: {', '.join(one.said)}" if one.said else ""
        console.say(f"{one.photo.id}  {guess}{said}")
    if not waiting:
        off = "" if config.serve.keep else " (serve.keep in config.yaml is off: no photo is kept)"
        console.say(f"the inbox is empty{off}")


def sit(config: Config, console: Console) -> None:
    """Serve the page until somebody finishes; then have DVC know what was accepted."""
    box = Inbox(config)
    if not box.waiting():
        show(config, console, as_json=False)
        return
    server = Server(box)
    console.say(f"{len(box.waiting())} photos wait: open {server.url}", "bold")
    console.say("  (it works once; Finish on the page or Ctrl-C here ends it, and accepted photos go under DVC)")
    try:
        server.run()
    except KeyboardInterrupt:
        console.say()
    finish(config, console, box)


def finish(config: Config, console: Console, box: Inbox) -> None:
    """`dvc add` what grew. Raises StepFailed or Busy with the command that does it later."""
    accepted = sum(1 for one in box.decided if one.made)
    rejected = len(box.decided) - accepted
    console.say(f"{accepted} accepted, {rejected} rejected, {len(box.waiting())} still wait")
    if folders := box.close():
        _add(config, console, folders)


def _add(config: Config, console: Console, folders: list[Path]) -> None:
    names = [one.relative_to(config.root).as_posix() for one in folders]
    typed = f"dvc add {shlex.join(names)}"
    try:
        with lock.hold(config.state), Store(config.state) as store:
            dvc.add(config.root, folders, console.log)
            share.remember(config.root, store, folders)
    except Busy as error:
        raise Busy(error.message, f"when it is over: {typed}") from None
    except StepFailed as error:
        raise StepFailed(error.message, typed) from None
    console.say("under DVC now; the next run learns from them:", "green")
    console.say(f"  git add {shlex.join(f'{name}.dvc' for name in names)}" + ' && git commit -m "Add labelled photos"')
