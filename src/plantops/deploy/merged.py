"""What several replicas of the API say on `/metrics`, as if one had said it."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SAMPLE = re.compile(r"^([^#{\s]+)(\{.*\})? (\S+)$")
_TYPE = re.compile(r"^# TYPE (\S+) (\w+)")
_SHARED = {"api_photos_in_work", "api_photos_in_work_limit"}  # gauges of which each replica has its part


def merged(texts: Iterable[str]) -> str:
    """Counters and histograms added up, and so are the photos in work; of any other gauge the largest.

    In and out: the exposition format of Prometheus (text, 0.0.4), one text for each replica.
    """
    said: dict[str, str] = {}  # comments as they are, of samples name and labels to value
    largest: set[str] = set()
    for line in (line for text in texts for line in text.splitlines()):
        if kind := _TYPE.match(line):
            largest |= {kind[1]} if kind[2] == "gauge" and kind[1] not in _SHARED else set()
        sample = _SAMPLE.match(line)
        if sample is None:
            said.setdefault(line, "")
            continue
        key, value = f"{sample[1]}{sample[2] or ''} ", float(sample[3])
        before = said.get(key)
        if before is not None:
            value = max(value, float(before)) if sample[1] in largest else value + float(before)
        said[key] = f"{value!r}"
    return "".join(f"{key}{value}\n" for key, value in said.items())
