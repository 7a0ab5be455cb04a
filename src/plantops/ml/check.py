"""``python -m plantops.ml.check``: params.yaml read as the stages read it, before any of them runs.

Ends with status 0 and no word; or with status 2 and what is wrong as JSON: ``{"message": text, "hint": text}``.
"""

from __future__ import annotations

import json
import sys

from plantops.errors import StepFailed
from plantops.ml.params import load


def main() -> int:
    """The exit status."""
    try:
        load()
    except StepFailed as error:
        print(json.dumps({"message": error.message, "hint": error.hint}))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
