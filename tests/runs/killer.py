"""plantops with one step that ends in a fault: `python killer.py kill|interrupt STEP start|end COMMAND…`.

The fault is real: SIGKILL or SIGINT to this very process, before or after the step's own work.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time

from plantops import steps
from plantops.__main__ import main

fault, name, moment = sys.argv[1:4]
real = steps.steps


def strike() -> None:
    os.kill(os.getpid(), signal.SIGKILL if fault == "kill" else signal.SIGINT)
    time.sleep(30)


def faulty(options: steps.Options) -> list[steps.Step]:
    return [dataclasses.replace(one, run=_struck(one.run)) if one.name == name else one for one in real(options)]


def _struck(run):
    def wrapped(work: steps.Work) -> str:
        if moment == "start":
            strike()
        note = run(work)
        strike()
        return note

    return wrapped


steps.steps = faulty
sys.argv = ["plantops", *sys.argv[4:]]
main()
