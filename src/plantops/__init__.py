"""plantops: notices new photos, trains, judges, releases, and goes back."""

import os

__version__ = "0.1.0"

# ONNX Runtime's builds report to their maker from 1.32 on, unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
