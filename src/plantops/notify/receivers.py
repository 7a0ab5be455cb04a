"""Who is told: what apprise reaches, webhooks, hooks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from plantops.config import Config
from plantops.errors import PlantopsError
from plantops.notify import hook, webhook
from plantops.notify.letter import News
from plantops.notify.secrets import revealed, scrubbed

_TIMEOUT_S = 8


@dataclass(frozen=True)
class Answer:
    """What a receiver said. ``again``: whether another try may help."""

    ok: bool
    said: str
    again: bool = True


class Receiver(Protocol):
    """Somebody to tell. Neither ``id`` nor ``label`` holds a secret."""

    @property
    def id(self) -> str:
        """The same as long as its text in config.yaml is."""

    @property
    def label(self) -> str:
        """How it is spoken of."""

    def ready(self) -> None:
        """Raise PlantopsError where it cannot even be tried to tell them, as a secret is missing."""

    def send(self, news: News) -> Answer:
        """Tell. Raises PlantopsError where it cannot even be tried."""


@dataclass(frozen=True)
class Messenger:
    """An address that apprise knows: https://appriseit.com/services/."""

    place: str
    target: str = field(repr=False)
    root: Path

    @property
    def id(self) -> str:
        """Of the text in config.yaml."""
        return _id(self.target)

    @property
    def label(self) -> str:
        """Where it stands in config.yaml, and its kind; what has no kind may be a secret from its first letter."""
        kind, sign, _ = self.target.partition("://")
        return f"{kind} ({self.place})" if sign and kind.isalnum() else self.place

    def ready(self) -> None:
        """Its secrets are there."""
        revealed(self.target, self.root)

    def send(self, news: News) -> Answer:
        """Send a message; what apprise's log says of it is the answer."""
        import apprise

        url = revealed(self.target, self.root)
        people = apprise.Apprise()
        with apprise.LogCapture(level=apprise.logging.INFO, fmt="%(message)s") as log:
            known = people.add(_with_timeout(url))
            sent = known and people.notify(
                title=news.title, body=news.text, body_format=apprise.NotifyFormat.TEXT, notify_type=_kind(news.event)
            )
            said = " ".join(scrubbed(log.getvalue(), url).split())
        if not known:
            return Answer(False, f"no address that apprise knows: {said}", again=False)
        return Answer(bool(sent), said or ("sent" if sent else "not sent"))


@dataclass(frozen=True)
class Webhook:
    """A URL that is sent signed JSON."""

    place: str
    target: str = field(repr=False)
    secret: str = field(repr=False)
    root: Path

    @property
    def id(self) -> str:
        """Of the text in config.yaml."""
        return _id(self.target)

    @property
    def label(self) -> str:
        """Where it stands in config.yaml."""
        return f"webhook ({self.place})"

    def ready(self) -> None:
        """Its secrets are there."""
        revealed(self.target, self.root)
        revealed(self.secret, self.root)

    def send(self, news: News) -> Answer:
        """Send the news once; any 2xx is well."""
        url, secret = revealed(self.target, self.root), revealed(self.secret, self.root)
        ok, said = webhook.send(url, secret, news, _TIMEOUT_S)
        return Answer(ok, scrubbed(said, url, secret))


@dataclass(frozen=True)
class Hook:
    """A program of the user's."""

    place: str
    program: Path
    root: Path
    log: Path
    limit_s: float

    @property
    def id(self) -> str:
        """Of its path."""
        return _id(str(self.program))

    @property
    def label(self) -> str:
        """Where it stands in config.yaml."""
        return f"{self.program.name} ({self.place})"

    def ready(self) -> None:
        """It may be run."""
        hook.check(self.program)

    def send(self, news: News) -> Answer:
        """Run it, once: what it did before it failed is not known."""
        try:
            return Answer(True, hook.run(self.program, news, self.root, self.log, self.limit_s), again=False)
        except PlantopsError as error:
            return Answer(False, error.message, again=False)


def messages(config: Config) -> Iterator[Receiver]:
    """All that get messages, whatever the event."""
    notify = config.notify
    for place, one in enumerate(notify.targets):
        yield Messenger(f"notify.targets[{place}]", one, config.root)
    for place, one in enumerate(notify.webhooks):
        yield Webhook(f"notify.webhooks[{place}]", one, notify.webhook_secret, config.root)


def hooks(config: Config) -> dict[str, Hook]:
    """The hooks, by event."""
    named = {event: name for event, name in vars(config.hooks).items() if isinstance(name, str) and name}
    log = config.state / "logs" / "hooks.log"
    return {
        event: Hook(f"hooks.{event}", config.root / Path(name).expanduser(), config.root, log, config.hooks.limit_s)
        for event, name in named.items()
    }


def of(config: Config, event: str) -> list[Receiver]:
    """Who is told of an event."""
    told = list(messages(config)) if event in config.notify.events else []
    called = hooks(config).get(event)
    return [*told, called] if called else told


def _id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _with_timeout(url: str) -> str:
    """apprise takes its timeouts from the address; a person's own stay."""
    if "://" not in url or "rto=" in url or url.startswith("http"):
        return url
    return f"{url}{'&' if '?' in url else '?'}cto={_TIMEOUT_S}&rto={_TIMEOUT_S}"


def _kind(event: str) -> str:
    return {"failed": "failure", "refused": "warning", "watch_stopped": "warning", "released": "success"}.get(
        event, "info"
    )
