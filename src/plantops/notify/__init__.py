"""Tells people and programs what happened: by message, by signed webhook, by hook. Never fails or delays a run.

What happened is a letter, a file in ``.plantops/letters/``; a process of its own delivers it (:mod:`.post`).
"""

from __future__ import annotations

from plantops.notify.letter import News
from plantops.notify.post import deliver, hindered, limit_s, listed, post, remind, test

__all__ = ["News", "deliver", "hindered", "limit_s", "listed", "post", "remind", "test"]
