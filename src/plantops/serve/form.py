"""The files of a form, out of its whole body (RFC 7578): they are found in it, and not copied.

Not as the body comes: it is bounded and has to be held anyway, and searching for the boundary is less work than feeding
a parser piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header

_MOST_FIELDS = 20
_LONGEST_BOUNDARY = 70  # RFC 2046, section 5.1.1
_LONGEST_HEAD = 8192
_BLANK = b"\r\n\r\n"


class BadForm(ValueError):
    """The body is no such form; the text says why."""


@dataclass(frozen=True)
class Upload:
    """One uploaded file: the client's name for it, and its bytes."""

    filename: str
    data: memoryview


def boundary_of(content_type: str | None) -> bytes | None:
    """What a form's parts are parted by; None when it is none. Raises BadForm."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        return None
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= _LONGEST_BOUNDARY:
        raise BadForm(f"the form's type must name a boundary of 1 to {_LONGEST_BOUNDARY} characters")
    return boundary


def files(body: bytearray, boundary: bytes, field: str, at_most: int) -> list[Upload]:
    """The files of ``field``, in order. Raises BadForm, also when there are more than ``at_most`` in all fields."""
    found, several, others = [], 0, 0
    for head, data in _parts(body, boundary):
        name, filename = _named(head)
        if filename is None:
            others += 1
        else:
            several += 1
            found += [Upload(filename, data)] if name == field else []
        if several > at_most:
            raise BadForm(f"more than {at_most} file{'s' if at_most > 1 else ''}")
        if others > _MOST_FIELDS:
            raise BadForm(f"more than {_MOST_FIELDS} fields that are no files")
    return found


def _parts(body: bytearray, boundary: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """The header and the content of each part that is whole; what a body ends with that was cut is none."""
    line, content = b"\r\n--" + boundary, memoryview(body)
    begins = line if body.startswith(b"\r\n") else line[2:]
    if not begins.startswith(body[: len(begins)]):
        raise BadForm("the form does not begin with its boundary")
    at = len(begins)
    while not body.startswith(b"--", at) and (end := body.find(line, at)) >= 0:
        head = body.find(_BLANK, at, min(end + 2, at + _LONGEST_HEAD))
        if head < 0 or not body.startswith(b"\r\n", at):
            raise BadForm(f"a part of the form has no header of at most {_LONGEST_HEAD} bytes")
        yield bytes(content[at:head]), content[head + len(_BLANK) : end]
        at = end + len(line)


def _named(head: bytes) -> tuple[str, str | None]:
    """The names of a part's field and file; None when it is no file. Raises BadForm."""
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.strip().lower() == b"content-disposition":
            options = parse_options_header(value.strip())[1]
            if b"name" in options:
                filename = options.get(b"filename")
                return _text(options[b"name"]), None if filename is None else _text(filename)
    raise BadForm("a part of the form has no name")


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")
