"""The prepared pixels: in a file, or in an object store and read by ranges (docs/decisions/0024-pixels-in-s3.md).

In a store they are called as the sha256 of all their bytes, and a small file holds the address: what DVC records of it
says which pixels they are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plantops.errors import StepFailed
from plantops.ml.files import write_json
from plantops.ondisk import unnamed

POINTER = "images.json"
CACHE_VARIABLE, _CACHE_GB = "PLANTOPS_PIXEL_CACHE_GB", 4.0
_AT_ONCE = 16  # requests: each waits longer for its answer than the answer takes
_TRIES = 5  # of each request
_LONGEST = 1 << 22  # bytes asked for in one request, where rows lie beside each other
_AGAIN = "dvc repro --force --single-item prepare_data"
_KEYS = "export AWS_PROFILE=…, or AWS_ACCESS_KEY_ID=… and AWS_SECRET_ACCESS_KEY=…"
Shape = tuple[int, int, int, int]


def check(store: str) -> None:
    """Raise StepFailed where nothing can be kept in ``store``: asked before the photos are read."""
    Object(store).reach()


def hand_over(images: Path, store: str) -> None:
    """Move the file ``images`` to ``store`` (s3://bucket/prefix) and leave its address beside where it was.

    What is there already is not sent again. Raises StepFailed.
    """
    with images.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    there = Object(f"{store.rstrip('/')}/{digest}.u8")
    size = images.stat().st_size
    if there.size() != size:
        there.write(images)
    write_json(images.with_name(POINTER), {"url": there.url, "sha256": digest, "bytes": size})
    images.unlink()


def open_(images: Path, shape: Shape) -> Pixels:
    """Those in the file ``images``, or where the address beside it says. Raises StepFailed where they are not whole."""
    pointer, size = images.with_name(POINTER), int(np.prod(shape, dtype=np.int64))
    if images.is_file():
        if images.stat().st_size != size:
            raise StepFailed(f"{images.parent} is not whole", _AGAIN)
        return np.memmap(images, np.uint8, "r", shape=shape)
    if not pointer.is_file():
        raise StepFailed(f"{images} is missing", "dvc repro prepare_data")
    there = Object(json.loads(pointer.read_text(encoding="ascii"))["url"])
    if (found := there.size()) is None:
        raise StepFailed(f"{there.url} is not there", _AGAIN)
    if found != size:
        raise StepFailed(f"{there.url} is not whole: it has {found:,} bytes of {size:,}", _AGAIN)
    return Stored(there, shape, _cache_bytes())


def _cache_bytes() -> int:
    given = os.environ.get(CACHE_VARIABLE, str(_CACHE_GB))
    try:
        return max(0, int(float(given) * 1e9))
    except (ValueError, OverflowError):
        raise StepFailed(f"{CACHE_VARIABLE} is {given!r}, which is no number", f"export {CACHE_VARIABLE}=4") from None


class Stored:
    """Pixels in an object store, uint8 (count, size, size, 3): rows are read when they are asked for.

    The first ones stay in a file without a name, as many as ``cache`` bytes hold. They are not replaced by others:
    every epoch asks for all rows in another order, so what was read last is no likelier to be next. A disk that is
    full before holds fewer.
    """

    def __init__(self, there: Object, shape: Shape, cache: int) -> None:
        self.shape, self._there = shape, there
        self._bytes = shape[1] * shape[2] * shape[3]  # of a row
        self._room = cache // self._bytes
        self._slots, self._taken = np.full(shape[0], -1, np.int32), 0
        self._cache = unnamed(buffering=0)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Sequence[int] | slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        """The rows, in the order asked for. Raises StepFailed when they cannot be had."""
        asked = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows, np.int64)
        found = np.empty((len(asked), *self.shape[1:]), np.uint8)
        here = self._slots[asked]
        for at in np.flatnonzero(here >= 0).tolist():
            os.preadv(self._cache.fileno(), [found[at]], int(here[at]) * self._bytes)
        away = np.flatnonzero(here < 0)
        distinct, place = np.unique(asked[away], return_inverse=True)
        if len(distinct):
            found[away] = self._fetched(distinct)[place]
        return found

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        step = max(1, _LONGEST // self._bytes)
        for start in range(0, len(self), step):
            yield from self[start : start + step]

    def _fetched(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """``rows`` ascend; those that lie beside each other come in one answer."""
        cuts = np.flatnonzero(np.diff(rows) > 1) + 1
        most = max(1, _LONGEST // self._bytes)
        runs = [run[at : at + most] for run in np.split(rows, cuts) for at in range(0, len(run), most)]
        with ThreadPoolExecutor(min(_AT_ONCE, len(runs))) as pool:
            answers = pool.map(lambda run: self._there.read(*self._range(run)), runs)
            data = b"".join(answers)
        found = np.frombuffer(data, np.uint8).reshape(len(rows), *self.shape[1:])
        self._keep(rows, found)
        return found

    def _range(self, run: NDArray[np.int64]) -> tuple[int, int]:
        return int(run[0]) * self._bytes, (int(run[-1]) + 1) * self._bytes

    def _keep(self, rows: NDArray[np.int64], found: NDArray[np.uint8]) -> None:
        data = found[: self._room - self._taken].tobytes()
        if not data:
            return
        try:
            written = os.pwrite(self._cache.fileno(), data, self._taken * self._bytes)
        except OSError:
            written = 0
        if written < len(data):  # the disk is full: the rows that are whole stay, and no more come
            self._room = self._taken + written // self._bytes
        some = rows[: written // self._bytes]
        self._slots[some] = np.arange(self._taken, self._taken + len(some))
        self._taken += len(some)


Pixels = NDArray[np.uint8] | Stored


class Object:
    """An object that a server keeps which speaks S3; AWS_ENDPOINT_URL says which, if not Amazon's."""

    def __init__(self, url: str) -> None:
        self.url = url
        bucket, _, key = url.removeprefix("s3://").partition("/")
        self._name = {"Bucket": bucket, "Key": key}

    def size(self) -> int | None:
        """Bytes; None where it is not there. Raises StepFailed, as the others, when the server does not say."""
        head = self._head
        return int(head["ContentLength"]) if head else None

    def reach(self) -> None:
        """Raise StepFailed when its bucket is not there, or not for us."""
        with _in_words(self.url, "aws s3 mb makes a bucket"):
            self._client.head_bucket(Bucket=self._name["Bucket"])

    def read(self, start: int, end: int) -> bytes:
        """The bytes between. Raises StepFailed also when another object lies there by now."""
        which = {"Range": f"bytes={start}-{end - 1}", "IfMatch": (self._head or {}).get("ETag", "")}
        with _in_words(self.url):
            return self._body(which, _TRIES)

    def _body(self, which: dict[str, str], tries: int) -> bytes:
        """An answer to its end: the client asks again for one that does not begin, not for one that is cut off."""
        from botocore.exceptions import IncompleteReadError, ReadTimeoutError, ResponseStreamingError

        answer = self._client.get_object(**self._name, **which)["Body"]
        try:
            data: bytes = answer.read()
        except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError):
            if tries == 1:
                raise
            return self._body(which, tries - 1)
        return data

    def write(self, file: Path) -> None:
        """Put a file there, in parts where it is large."""
        with _in_words(self.url):
            self._client.upload_file(str(file), self._name["Bucket"], self._name["Key"])

    @cached_property
    def _head(self) -> dict[str, Any] | None:
        with _in_words(self.url):
            from botocore.exceptions import ClientError

            try:
                return dict(self._client.head_object(**self._name))
            except ClientError as error:
                if error.response["Error"]["Code"] == "404":
                    return None
                raise

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        retries = {"mode": "standard", "max_attempts": _TRIES}
        return boto3.Session().client("s3", config=Config(max_pool_connections=_AT_ONCE, retries=retries))


@contextmanager
def _in_words(url: str, mend: str = _AGAIN) -> Iterator[None]:
    """What a server, the network or the installation does not let us, as StepFailed. ``mend`` what is not there."""
    try:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
    except ModuleNotFoundError:
        raise StepFailed(f"{url}: S3 is not installed", "pip install 'plantops[s3]'") from None
    try:
        yield
    except (NoCredentialsError, PartialCredentialsError):
        raise StepFailed(f"{url}: there are no credentials for it here", _KEYS) from None
    except ClientError as error:
        raise _refused(url, error.response["Error"]["Code"], mend) from None
    except (BotoCoreError, Boto3Error, ValueError) as error:  # the last: an AWS_ENDPOINT_URL that is none
        raise StepFailed(f"{url}: {error}", "echo $AWS_ENDPOINT_URL names the server, if it is not Amazon's") from None


def _refused(url: str, code: str, mend: str) -> StepFailed:
    if code in ("404", "NoSuchKey", "NoSuchBucket"):
        return StepFailed(f"{url} is not there", mend)
    if code in ("412", "PreconditionFailed"):
        return StepFailed(f"{url} was written anew while it was read", "run again")
    if code in ("403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"):
        return StepFailed(f"{url}: it refuses the credentials that are used here ({code})", _KEYS)
    return StepFailed(f"{url}: {code}", "aws s3 ls shows what the server says")
