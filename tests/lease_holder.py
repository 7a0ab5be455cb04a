"""A process that holds the lease of the project in a folder: `python lease_holder.py FOLDER`.

It says `holds`, and then does what it is told line by line: check, serve NAME, enter (a fence), leave, end. Each is
answered with `ok`, or with the error.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

from plantops import lease, lock
from plantops.config import load
from plantops.errors import PlantopsError

config = load(Path(sys.argv[1]))


def do(word: str, name: str, held: lease.Lease, fence: ExitStack) -> None:
    if word == "check":
        held.check()
    elif word == "serve":
        with held.fence():
            held.serves(name, "a test")
    elif word == "enter":
        fence.enter_context(held.fence())
        held.serves(name, "a test")
    elif word == "leave":
        fence.close()


try:
    with lock.hold(config.state), lease.hold(config) as held, ExitStack() as fence:
        print("holds", flush=True)
        for line in sys.stdin:
            word, _, name = line.strip().partition(" ")
            if word == "end":
                break
            try:
                do(word, name, held, fence)
                print("ok", flush=True)
            except PlantopsError as error:
                print(f"{type(error).__name__}: {error.message}", flush=True)
except PlantopsError as error:
    print(f"{type(error).__name__}: {error.message}", flush=True)
