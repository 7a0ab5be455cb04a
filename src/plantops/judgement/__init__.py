"""Brings the candidate's and the champion's answers, and what else is known of them, before the gate."""

from plantops.judgement.bench import alone, facts, summary, verdict
from plantops.judgement.fair import renamed, renaming, wandered

__all__ = ["alone", "facts", "renamed", "renaming", "summary", "verdict", "wandered"]
