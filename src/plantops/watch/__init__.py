"""When to look, whether to run now, and what is told of it: `plantops watch`."""

from __future__ import annotations

from plantops.watch.loop import Watch
from plantops.watch.signals import Calls, heard

__all__ = ["Calls", "Watch", "heard"]
