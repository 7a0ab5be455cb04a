"""All rules, brought together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from plantops.config import GateConfig
from plantops.gate.answers import Answer
from plantops.gate.comparison import Champion, compare
from plantops.gate.floors import Facts, floors
from plantops.gate.verdict import Verdict


def judge(
    candidate: Sequence[Answer],
    sample_data: bool,
    champion: Champion | None,
    rules: GateConfig,
    facts: Facts | None = None,
) -> Verdict:
    """Judge a candidate by its answers on its test photos, and against the champion on the same photos.

    Without a champion only the floors decide. A champion of other classes is compared on the shared classes. One
    of drawn data is none for real photos, and a model of drawn leaves never replaces one of real photos.
    """
    findings = floors(candidate, facts or Facts(), rules)
    if champion:
        findings += compare(candidate, sample_data, champion, rules)
    lenient = rules.not_enough == "accept"
    return Verdict(tuple(findings), lenient, champion.release if champion else None, asdict(rules))


__all__ = ["Champion", "judge"]
