"""The Docker SDK's errors as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from plantops.errors import StepFailed


@contextmanager
def speaking() -> Iterator[None]:
    """Turn what the SDK raises while talking to the engine into StepFailed."""
    from http.client import HTTPException

    from docker.errors import DockerException
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (DockerException, RequestException, HTTPError, HTTPException) as error:
        raise StepFailed(f"the Docker engine said: {str(error)[:500]}", "plantops doctor") from None
