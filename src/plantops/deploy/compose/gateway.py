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
_FOUND_S = 15.0
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

    def hold_newcomers(self, known: Collection[str]) -> None:
        """Close the places that none of ``known`` has: whoever gets one has no traffic until it is opened.

        Those of containers that have just gone, too: the engine may give their address to the next one.
        """
        self._set([slot for slot in self.slots() if slot.address not in known], "state maint")

    def finds(self, address: str) -> bool:
        """Whether the container at ``address`` has a place, or gets one in time."""
        return process.wait_until(lambda: self._at(address) is not None, _FOUND_S, _POLL_S)

    def open(self, address: str) -> None:
        """Give the container at ``address`` traffic, and wait until it has. Raises StepFailed when it gets none."""
        if not self.finds(address):
            raise StepFailed(f"HAProxy does not find the container at {address}", "docker logs of haproxy")
        self._set([slot for slot in self.slots() if slot.address == address], "state ready")
        if not process.wait_until(lambda: any(one.up for one in self._all_at(address)), _SEEN_S, _POLL_S):
            raise StepFailed(f"HAProxy finds the container at {address} unhealthy: {self._at(address)}")
        # As robust as one that was up for long: else its first failed check would have it down at once.
        self._set(self._all_at(address), "health up")

    def resume(self, address: str) -> None:
        """Give a drained container traffic again."""
        self._set(self._all_at(address), "state ready")

    def only(self, address: str, patience: float) -> bool:
        """Drain every other container, and wait until their last request is answered; False if one was not."""
        self._set([slot for slot in self.slots() if slot.address and slot.address != address], "state drain")
        return process.wait_until(
            lambda: not any(slot.sessions for slot in self.slots() if slot.address != address), patience, _POLL_S
        )

    def open_for(self, addresses: Collection[str]) -> None:
        """Open every place, so that the API finds one whatever its address becomes; ``addresses`` are there now.

        HAProxy has those that are gone for some seconds more: down, until somebody healthy has their place.
        """
        slots = self.slots()
        gone = [slot for slot in slots if slot.address and slot.address not in addresses]
        self._set(gone, "state ready", "health down")
        self._set([slot for slot in slots if slot not in gone], "state ready")

    def drain_others(self, addresses: Collection[str]) -> None:
        """Give no more requests to containers at other addresses; :meth:`open_for` opens their places again."""
        self._set([slot for slot in self.slots() if slot.up and slot.address not in addresses], "state drain")

    def _at(self, address: str) -> Slot | None:
        return next(iter(self._all_at(address)), None)

    def _all_at(self, address: str) -> list[Slot]:
        return [slot for slot in self.slots() if slot.address == address]

    def _set(self, slots: list[Slot], *what: str) -> None:
        """Set all of the slots, each to all of that, in one breath."""
        if not slots:
            return
        said = self._ask(
            "; ".join(f"set server {_BACKEND}/{slot.name} {one}" for slot in slots for one in what)
        ).strip()
        if said:
            names = ", ".join(slot.name for slot in slots)
            raise StepFailed(f"HAProxy refused to set {names} to {what[0]}: {said}")

    def _ask(self, command: str) -> str:
        try:
            with unix.connect(self._socket, 5.0) as connection:
                connection.sendall(command.encode() + b"\n")
                with connection.makefile("rb") as stream:
                    return stream.read().decode()
        except OSError as error:
            raise StepFailed(f"HAProxy does not answer: {error}", "plantops up") from None
