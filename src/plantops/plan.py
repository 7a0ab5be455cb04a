"""Is there work to do? Compares the inputs with what is settled. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plantops import detect, dvc, process
from plantops.config import OWN_FILES, PIPELINE
from plantops.store import ACCEPTED, INTERRUPTED, REFUSED, Run, Store

NOT_LOOKED_AT = "photos and code that moved without `dvc add` (plantops check --deep looks at them)"
_MOMENT_S = 1.0


@dataclass(frozen=True)
class Plan:
    """What a run would start from, and why.

    ``first``: nothing was ever settled here. ``changes``: what differs from what is settled. ``owed``: runs on
    exactly these inputs that failed or were interrupted. ``undeployed``: an accepted release
    that no run has put in service. ``loose``: photos that DVC does not know as they are, in words; None when
    nobody looked.
    """

    inputs: dict[str, Any]
    fingerprint: str
    settled: Run | None
    changes: list[detect.Change]
    owed: list[Run]
    undeployed: str = ""
    loose: list[str] | None = None

    @property
    def waiting(self) -> bool:
        """Whether there is something to do, for a run or for a person."""
        return self.due or bool(self.loose)

    @property
    def first(self) -> bool:
        """Whether no run was ever settled."""
        return self.settled is None

    @property
    def due(self) -> bool:
        """Whether a run has something to do."""
        return self.first or bool(self.changes) or bool(self.owed)

    @property
    def stages(self) -> list[str]:
        """The stages that the changes touch, and those after them; all of them for the first run."""
        pipeline = self.inputs.get(PIPELINE)
        touched = [stage for one in self.changes for stage in one.stages]
        return detect.affected(detect.stage_names(pipeline) if self.first else touched, pipeline)

    @property
    def only_serving(self) -> bool:
        """Whether all there is to do is to serve the release in service in another way."""
        settled = not (self.first or self.owed or self.undeployed)
        return settled and bool(self.changes) and all(one.serves for one in self.changes)

    @property
    def broken(self) -> list[str]:
        """The files that have to be mended before a run can do anything."""
        return [one.file for one in detect.unreadable(self.inputs)]

    @property
    def tries(self) -> list[Run]:
        """The owed runs that count as tries: none where dvc.lock, or what else runs write, was mended or came since."""
        now, last = detect.own_files(self.inputs), next(iter(self.owed), None)
        if last is None or last.left_behind is None:  # nobody recorded what it wrote
            return self.owed
        written = [detect.own_files(one) for one in (last.inputs, last.left_behind)]
        return self.owed if not all(detect.changes(one, now) for one in written) else []

    @property
    def refused(self) -> bool:
        """Whether the gate refused these inputs: settled, not tried again by itself."""
        return self.settled is not None and self.settled.state == REFUSED and not self.changes

    def sentences(self) -> list[str]:
        """Why a run is due, or what is settled, in words."""
        said = [f"{one.file}: {one.what}" for one in self.changes]
        if self.first and not self.owed:
            said = ["nothing has been run here yet", *said]
        if self.owed:
            last = self.owed[0]
            times = f" ({len(self.owed)} tries so far)" if len(self.owed) > 1 else ""
            said.append(f"owed: run {last.id} {last.ended_how} on these inputs{times}: {first_line(last.error)}")
        elif self.refused and self.settled:
            said.append(f"settled: the gate refused these inputs in run {self.settled.id}; a change starts the next")
        elif not self.due and self.undeployed:
            said.append(f"accepted and not deployed: {self.undeployed} (plantops run deploys it)")
        return [*said, *(self.loose or [])] or ["no changes"]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "due": self.due,
            "first": self.first,
            "changes": [{"file": one.file, "what": one.what} for one in self.changes],
            "stages": self.stages,
            "owed": [{"run": one.id, "state": one.state, "error": one.error} for one in self.owed],
            "refused": self.refused,
            "undeployed": self.undeployed or None,
            "settled": {"run": self.settled.id, "state": self.settled.state, "release": self.settled.release}
            if self.settled
            else None,
            "fingerprint": self.fingerprint,
            "loose": self.loose,
            "not_looked_at": NOT_LOOKED_AT if self.loose is None else None,
        }


def make(root: Path, store: Store, going_on: bool = False) -> Plan:
    """Read the inputs of the project at ``root`` and compare them with what is settled.

    ``going_on``: while another process runs, what that run writes itself is left out; and it has not died.
    """
    settled = store.last_settled()
    baseline = _baseline(settled, store) if settled else {}
    inputs = _inputs(root, baseline)
    changes = detect.changes(baseline, inputs) if settled else detect.unreadable(inputs)
    if going_on:  # dvc.lock and the code digests are in motion: the run that goes on writes them
        changes = [one for one in changes if one.file not in OWN_FILES]
    unfinished = store.unfinished(going_on)
    if unfinished and unfinished[0].state == INTERRUPTED and unfinished[0].left_behind is None:
        changes = [_perhaps_by(unfinished[0], one) for one in changes]
    return Plan(
        inputs=inputs,
        fingerprint=detect.fingerprint(inputs),
        settled=settled,
        changes=changes,
        undeployed=_undeployed(settled, store),
        owed=[one for one in unfinished if detect.given(one.inputs) == detect.given(inputs)],
    )


def left_behind(began: dict[str, Any], now: dict[str, Any], read: dict[str, Any]) -> dict[str, Any]:
    """The inputs that a run settles: as they were when it ``began``, and ``now`` only where it wrote them itself.

    ``read``: the ``.dvc`` files whose photos it really read, which DVC may have brought up to date meanwhile.
    """
    return {**began, **read, **detect.own_files(now)}


def _inputs(root: Path, known: dict[str, Any]) -> dict[str, Any]:
    """The inputs; what is half written or away for a moment (git checkout, an editor that saves) is waited for."""
    inputs = dvc.inputs(root)

    def whole() -> bool:
        nonlocal inputs
        before, inputs = inputs, dvc.inputs(root)
        return inputs == before and known.keys() <= inputs.keys() and not detect.unreadable(inputs)

    if not known.keys() <= inputs.keys() or detect.unreadable(inputs):
        process.wait_until(whole, _MOMENT_S)
    return inputs


def _perhaps_by(died: Run, change: detect.Change) -> detect.Change:
    """A stage in dvc.lock may be of a run that was killed: what it left behind is not on record."""
    said = f"was run by run {died.id}, which was {died.state}, or elsewhere"
    return replace(change, what=change.what.replace(detect.ELSEWHERE, said))


def _undeployed(settled: Run | None, store: Store) -> str:
    current = store.in_service()
    if settled is None or settled.state != ACCEPTED or (current and current.id == settled.release):
        return ""
    release = store.release(settled.release or "")
    return release.id if release and not release.withdrawn else ""


def _baseline(settled: Run, store: Store) -> dict[str, Any]:
    """What is settled; with dvc.lock and the code digests as the newest run left them, even if it failed.

    One that could not be read then counts as it was settled.
    """
    before, last = settled.left_behind or {}, (store.last_ended() or settled).left_behind or {}
    broken = {one.file for one in detect.unreadable(last)}
    return {**detect.given(before), **detect.own_files({**last, **{k: v for k, v in before.items() if k in broken}})}


def first_line(text: str | None) -> str:
    """What an error says first, fit for the middle of a sentence."""
    return text.splitlines()[0].removesuffix("; its last lines:").removesuffix(":") if text else "no reason recorded"
