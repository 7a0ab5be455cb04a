"""YAML as plain values, its numbers as YAML 1.2 has them, and so DVC: PyYAML speaks 1.1 and takes 2e-3 for text."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_FLOAT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")  # yaml.org/spec/1.2.2, 10.3.2


class NotYaml(ValueError):
    """This text cannot be understood; it says why, and where."""


def read(text: bytes | str) -> Any:
    """The one document in ``text``. Raises NotYaml."""
    import yaml  # 15 ms: not where nothing is read

    try:
        return yaml.load(text, Loader=_loader())
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: of a date that there is not
        raise NotYaml(str(error)) from None


@cache
def _loader() -> Any:
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """Nothing but plain values."""

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789"))
    return Loader
