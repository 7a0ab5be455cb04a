"""A signal that asks a command to end is heard, whatever the interpreter is doing just then."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# What a weak reference calls, and `__del__`, drop every exception: Python prints it and goes on.
_IN_LETTING_GO = """
import os, time, weakref
from plantops.__main__ import hear_signals

class Thing: pass

hear_signals()
thing = Thing()
known = weakref.ref(thing, lambda _: os.kill(os.getpid(), {signum}))
try:
    del thing
    time.sleep(20)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_one_that_comes_while_an_object_is_let_go_is_not_lost(signum: signal.Signals) -> None:
    code = _IN_LETTING_GO.format(signum=int(signum))
    # Who is started in the background has SIGINT ignored, and its children inherit that.
    heard = f"import signal; signal.signal({int(signum)}, signal.default_int_handler)\n{code}"
    done = subprocess.run([sys.executable, "-c", heard], capture_output=True, text=True, timeout=15)
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted\n", "", 0)


def test_other_exceptions_that_are_dropped_are_printed() -> None:
    code = "from plantops.__main__ import hear_signals\nhear_signals()\n"
    code += "class Thing:\n    def __del__(self): 1 / 0\nThing()\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15)
    assert "ZeroDivisionError" in done.stderr
