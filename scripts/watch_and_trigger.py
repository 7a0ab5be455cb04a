#!/usr/bin/env python3
"""The same as `plantops watch`, with the same flags."""
import os, sys
home = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".venv", "bin", "plantops")
os.execvp(home if os.path.exists(home) else "plantops", ["plantops", "watch", *sys.argv[1:]])
