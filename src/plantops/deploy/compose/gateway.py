"""HAProxy's runtime API: which container gets traffic. (HAProxy management guide, section 9.3, "Unix Socket commands".)

The API's containers fill the slots of one backend by the engine's DNS. A slot is opened and drained here by the address
of its container, so nothing has to be known about which slot a container got.
"""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from plantops import process
from plantops.deploy import unix
from plantops.errors import StepFailed

_BACKEND = "api"
_POLL_S = 0.05
_SEEN_S = 15.0


@dataclass(frozen=True)
class Slot:
    """One place of the backend: ``address`` of the container in it (or empty), ``status`` as HAProxy says it."""

    name: str
    address: str
    status: str
    sessions: int

    @property
    def up(self) -> bool:
        """Whether it gets traffic."""
        return self.status.startswith("UP")

    @property
    def held(self) -> bool:
        """Whether it was closed by :meth:`Gateway.hold_newcomers` (an empty place says ``MAINT (resolution)``)."""
        return self.status == "MAINT"


class Gateway:
    """The admin socket of one running HAProxy."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def answers(self) -> bool:
        """Whether HAProxy is there."""
        try:
            return bool(self._ask("show info"))
        except StepFailed:
            return False

    def slots(self) -> list[Slot]:
        """All places of the backend. Raises StepFailed when HAProxy does not answer."""
        text = self._ask(f"show stat {_BACKEND} 4 -1").removeprefix("# ")
        return [
            Slot(row["svname"], row["addr"].rpartition(":")[0], row["status"], int(row["scur"] or 0))
            for row in csv.DictReader(text.splitlines())
            if row["pxname"] == _BACKEND
        ]

    def hold_newcomers(self) -> None:
        """Close the free places: whoever gets one has no traffic until it is opened."""
        self._set("state maint", [slot for slot in self.slots() if not slot.address])

    def open(self, address: str) -> None:
        """Give the container at ``address`` traffic, and wait until it has. Raises StepFailed when it gets none."""
        if not process.wait_until(lambda: self._at(address) is not None, _SEEN_S, _POLL_S):
            raise StepFailed(f"HAProxy does not find the container at {address}", "docker logs of haproxy")
        self._set("state ready", [slot for slot in self.slots() if slot.address == address])
        if not process.wait_until(lambda: any(one.up for one in self._all_at(address)), _SEEN_S, _POLL_S):
            raise StepFailed(f"HAProxy finds the container at {address} unhealthy: {self._at(address)}")
        # As robust as one that was up for long: else its first failed check would have it down at once.
        self._set("health up", self._all_at(address))

    def only(self, address: str, patience: float) -> bool:
        """Drain every other container, and wait until their last request is answered; False if one was not."""
        self._set("state drain", [slot for slot in self.slots() if slot.address and slot.address != address])
        return process.wait_until(
            lambda: not any(slot.sessions for slot in self.slots() if slot.address != address), patience, _POLL_S
        )

    def open_but(self, addresses: Collection[str]) -> None:
        """Open every place that none of ``addresses`` holds, so that the API finds one whatever its address becomes."""
        self._set("state ready", [slot for slot in self.slots() if slot.address not in addresses])

    def _at(self, address: str) -> Slot | None:
        return next(iter(self._all_at(address)), None)

    def _all_at(self, address: str) -> list[Slot]:
        return [slot for slot in self.slots() if slot.address == address]

    def _set(self, what: str, slots: list[Slot]) -> None:
        for slot in slots:
            if said := self._ask(f"set server {_BACKEND}/{slot.name} {what}").strip():
                raise StepFailed(f"HAProxy refused to set {slot.name} to {what}: {said}")

    def _ask(self, command: str) -> str:
        try:
            with unix.connect(self._socket, 5.0) as connection:
                connection.sendall(command.encode() + b"\n")
                with connection.makefile("rb") as stream:
                    return stream.read().decode()
        except OSError as error:
            raise StepFailed(f"HAProxy does not answer: {error}", "plantops up") from None
