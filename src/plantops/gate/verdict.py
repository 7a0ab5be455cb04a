"""What the gate says: findings, each a rule with its numbers and a sentence, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

# Of a finding.
PASSED, FAILED, NOT_JUDGED = "passed", "failed", "not judged"
# Of a finding and of the verdict.
NOT_ENOUGH = "not enough evidence"
# Of the verdict.
ACCEPTED, REFUSED = "accepted", "refused"


@dataclass(frozen=True)
class Finding:
    """One rule with its numbers: ``state`` is passed, failed, not enough evidence or not judged.

    ``sentence`` says it in words. ``low`` and ``high`` bound ``value`` (or, in a comparison, the ``difference``), as
    sure as ``gate.confidence`` says. ``binding``: no person can overrule it.
    ``evidence``: passing it says something good of the model (a limit that is kept does not). ``numbers``: what else
    was counted.
    """

    rule: str
    state: str
    sentence: str
    value: float | None = None
    threshold: float | None = None
    low: float | None = None
    high: float | None = None
    difference: float | None = None
    binding: bool = False
    evidence: bool = True
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Overruled:
    """Who released a model that the gate did not accept, when, and why."""

    user: str
    reason: str
    at: str


@dataclass(frozen=True)
class Verdict:
    """Refused when a rule failed; not enough evidence when a rule could not tell, or none was judged; else accepted.

    ``lenient``: what not enough evidence then means (``gate.not_enough: accept``). ``rules`` are the thresholds it
    was judged by.
    """

    findings: tuple[Finding, ...]
    lenient: bool = False
    against: str | None = None
    rules: Mapping[str, Any] = field(default_factory=dict)
    overruled: Overruled | None = None

    @property
    def outcome(self) -> Literal["accepted", "refused", "not enough evidence"]:
        """What the evidence says."""
        if self.said(FAILED):
            return "refused"
        return "not enough evidence" if self.said(NOT_ENOUGH) or not self._judged else "accepted"

    @property
    def accepted(self) -> bool:
        """Whether the model may be released. What no rule could judge never is, unless a person says so."""
        if self.overruled:
            return True
        return self.outcome == ACCEPTED or (self.outcome == NOT_ENOUGH and self.lenient and self._judged)

    @property
    def _judged(self) -> bool:
        """Whether a rule was passed that says something good of the model, or one was measured that cannot tell yet."""
        return any(
            one.evidence and (one.state == PASSED or (one.state == NOT_ENOUGH and one.value is not None))
            for one in self.findings
        )

    @property
    def binding(self) -> list[str]:
        """The sentences that no person can overrule."""
        return [one.sentence for one in self.findings if one.state == FAILED and one.binding]

    @property
    def reasons(self) -> list[str]:
        """The sentences of the rules that failed; where none did, of those that could not tell."""
        failed = self.said(FAILED)
        return failed or self.said(NOT_ENOUGH) or ["no rule could be judged"]

    @property
    def unjudged(self) -> list[str]:
        """The sentences of the rules that could not be judged, or could not tell."""
        return self.said(NOT_JUDGED, NOT_ENOUGH)

    def said(self, *states: str) -> list[str]:
        """The sentences of the findings in these states."""
        return [one.sentence for one in self.findings if one.state in states]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "accepted": self.accepted,
            "outcome": self.outcome,
            "against": self.against,
            "accepted_anyway": asdict(self.overruled) if self.overruled else None,
            "findings": [asdict(one) for one in self.findings],
            "rules": dict(self.rules),
        }
