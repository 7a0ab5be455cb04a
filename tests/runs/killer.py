"""plantops with one step that meets a fault: `python killer.py kill|interrupt|pause STEP start|end COMMAND…`.

The fault is real: SIGKILL, SIGINT or SIGSTOP to this very process, before or after the step's own work. One that is
paused goes on when it gets SIGCONT.
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
SIGNALS = {"kill": signal.SIGKILL, "interrupt": signal.SIGINT, "pause": signal.SIGSTOP}


def strike() -> None:
    os.kill(os.getpid(), SIGNALS[fault])
    if fault != "pause":
        time.sleep(30)


def faulty(options: steps.Options) -> list[steps.Step]:
    return [dataclasses.replace(one, run=_struck(one.run)) if one.name == name else one for one in real(options)]


def _struck(run):
    def wrapped(work: steps.Work) -> str:
        if moment == "start":
            strike()
        note = run(work)
        if moment == "end":
            strike()
        return note

    return wrapped


steps.steps = faulty
sys.argv = ["plantops", *sys.argv[4:]]
main()
