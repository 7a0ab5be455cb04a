"""The post: a letter is put on disk, and a process of its own delivers it, so that no run waits for a network."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

from plantops import lock, process
from plantops.config import Config
from plantops.console import Console
from plantops.errors import Busy, PlantopsError
from plantops.notify import letter, receivers
from plantops.notify.letter import ENDED, FAILED, SENDING, SENT, WAITING, Delivery, Letter, News
from plantops.notify.receivers import Answer, Receiver

LOCK = "letters.lock"
PAUSES_S = (0.0, 2.0, 10.0)  # before each round over what is owed
_TRY_S = 120  # one try at one receiver, at most; a hook has its own limit on top


def post(config: Config, console: Console, news: News) -> None:
    """Have news told to whoever wants to know, once. Whatever stands in the way is said, and raises nothing."""
    try:
        to = receivers.of(config, news.event)
        if not to or letter.path(config.state, news).exists():
            return
        letter.write(config.state, Letter(news, {one.id: Delivery(one.label) for one in to}))
        _send_postman(config)
    except (OSError, PlantopsError) as error:
        with suppress(OSError):
            console.say(f"  {news.title}: nobody can be told: {error}", "yellow")


def remind(config: Config, console: Console) -> None:
    """Say, once, what could not be sent, and have it tried again. Raises nothing."""
    if not (config.state / letter.FOLDER).is_dir():
        return
    try:
        with lock.hold(config.state, LOCK, patience=0):
            owed = [_told(config, console, one) for one in letter.letters(config.state)]
        if any(owed):
            _send_postman(config)
    except Busy:  # a postman is on his way
        return
    except (OSError, PlantopsError) as error:
        with suppress(OSError):
            console.say(f"  letters wait: {error}", "yellow")


def limit_s(config: Config) -> int:
    """Seconds that one try may take; a delivery in which nothing moves for twice that has died."""
    return _TRY_S + math.ceil(config.hooks.limit_s)


def deliver(config: Config, pauses: Sequence[float] = PAUSES_S) -> Iterator[str]:
    """Deliver what is owed, in a few rounds with pauses between; yields what became of each try."""
    with lock.hold(config.state, LOCK, patience=limit_s(config)):
        for one in letter.letters(config.state):
            _cut_off(config, one)
        for pause in pauses:
            owed = [one for one in letter.letters(config.state) if one.owed and not one.stale()]
            if not owed:
                break
            time.sleep(pause)
            for one in owed:
                yield from _deliver(config, one)
        letter.prune(config.state)


def test(config: Config, news: News) -> Iterator[tuple[str, Answer]]:
    """Send news to every target, now; of a hook only whether it may be run. Yields label and answer."""
    for one in receivers.messages(config):
        yield one.label, _answer(one, news)
    for called in receivers.hooks(config).values():
        try:
            called.ready()
            yield called.label, Answer(True, "may be run (a test does not run it)")
        except PlantopsError as error:
            yield called.label, Answer(False, f"{error.message}: {error.hint}")


def hindered(config: Config) -> Iterator[tuple[str, PlantopsError]]:
    """Who cannot be told as things are (label), and why. Sends nothing."""
    everybody: list[Receiver] = [*receivers.messages(config), *receivers.hooks(config).values()]
    for one in everybody:
        try:
            one.ready()
        except PlantopsError as error:
            yield one.label, error


def listed(config: Config) -> list[str]:
    """Who is told of what, and what could not be sent, in words."""
    events = ", ".join(config.notify.events)
    who = [f"{one.label}: {events}" for one in receivers.messages(config)]
    who += [f"{one.label}: {event}" for event, one in receivers.hooks(config).items()]
    lost = [
        f"not sent: {one.news.title} to {to.label}: {to.why}"
        for one in letter.letters(config.state)
        for to in one.to.values()
        if to.state in (FAILED, ENDED) and not one.stale()
    ]
    return [*(who or ["nobody is told of anything: notify and hooks in config.yaml"]), *lost]


def _send_postman(config: Config) -> None:
    argv = [sys.executable, "-m", "plantops", "deliver", "--config", str(config.file)]
    process.detach(argv, config.root, config.state / "logs" / "notify.log")


def _told(config: Config, console: Console, one: Letter) -> bool:
    """Say what of a letter failed; whether it may still be sent."""
    alive = one.owed and not one.stale()
    fresh = [to for to in one.to.values() if to.state in (FAILED, ENDED) and not to.told]
    for to in fresh:
        then = "; trying again" if to.state == FAILED and alive else ""
        console.say(f"  not sent: {one.news.title} to {to.label}: {to.why}{then}", "yellow")
        to.told = True
    if fresh:
        letter.write(config.state, one)
    return alive


def _cut_off(config: Config, one: Letter) -> None:
    """What a postman who died was just sending may have arrived: it is not sent again."""
    lost = [to for to in one.to.values() if to.state == SENDING]
    for to in lost:
        to.state, to.why = ENDED, "cut off while it was sent: it may have arrived"
    if lost:
        letter.write(config.state, one)


def _deliver(config: Config, one: Letter) -> Iterator[str]:
    for receiver in receivers.of(config, one.news.event):
        to = one.to.get(receiver.id)
        if to is None or to.state not in (WAITING, FAILED):
            continue
        to.state = SENDING
        letter.write(config.state, one)
        answer = _answer(receiver, one.news)
        to.state = SENT if answer.ok else FAILED if answer.again else ENDED
        to.told, to.why = to.told and not answer.ok, answer.said
        letter.write(config.state, one)
        yield f"{one.news.name} to {to.label}: {to.state}: {answer.said}"


def _answer(receiver: Receiver, news: News) -> Answer:
    try:
        return receiver.send(news)
    except PlantopsError as error:
        return Answer(False, f"{error.message} ({error.hint})")
