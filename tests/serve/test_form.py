"""A form's files, whatever they hold and however the form was cut."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops.serve.form import BadForm, boundary_of, files

BOUNDARY = "----WebKitFormBoundaryAbc123"
LINE = f"\r\n--{BOUNDARY}".encode()
FILE = b'Content-Disposition: form-data; name="file"; filename="leaf.jpg"'
FIELD = b'content-disposition:form-data;name="note"'
contents = st.binary(max_size=60) | st.lists(
    st.sampled_from([b"\r\n", b"--", BOUNDARY.encode(), b"x", LINE[:-1]]), max_size=8
).map(b"".join)


def form(*parts: tuple[bytes, bytes], end: bytes = b"--\r\n") -> bytearray:
    return bytearray(b"".join(LINE + b"\r\n" + head + b"\r\n\r\n" + data for head, data in parts)[2:] + LINE + end)


def read(body: bytes | bytearray, at_most: int = 16) -> list[tuple[str, bytes]]:
    found = files(bytearray(body), BOUNDARY.encode(), "file", at_most)
    return [(one.filename, bytes(one.data)) for one in found]


@given(st.lists(contents.filter(lambda data: LINE not in b"\r\n" + data + b"\r\n"), min_size=1, max_size=5))
def test_files_are_found_as_they_were_sent(sent: list[bytes]) -> None:
    parts = [(FILE, data) for data in sent]
    body = form((FIELD, b"nothing"), *parts)
    assert read(body) == [("leaf.jpg", data) for data in sent]
    assert read(b"\r\n" + body) == read(body)
    assert read(form(*parts, (FILE, b"the last")), 9)[-1] == ("leaf.jpg", b"the last")


@given(st.binary() | st.tuples(contents, contents).map(lambda two: bytes(form((FILE, two[0]))) + two[1]))
def test_any_bytes_are_a_form_or_none(body: bytes) -> None:
    with suppress(BadForm):
        assert all(name == "leaf.jpg" for name, _ in read(body))


@given(st.integers(0, 400))
def test_a_form_that_was_cut_has_the_files_that_came_whole(at: int) -> None:
    whole = form((FILE, b"first"), (FIELD, b"x" * 50), (FILE, b"second"))
    cut = read(whole[:at])
    assert cut == read(whole)[: len(cut)]
    assert len(cut) == (at >= whole.index(b"first") + 5 + len(LINE)) + (at >= whole.index(b"second") + 6 + len(LINE))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"--another\r\n\r\n", "begin with its boundary"),
        (form((b"Content-Type: image/jpeg", b"x")), "no name"),
        (form((b'Content-Disposition: form-data; filename="x"', b"x")), "no name"),
        (form((b"X: " + b"y" * 9_000, b"x")), "no header"),
        (form((FILE, b"x"), end=b"and more\r\n") + LINE, "no header"),
        (form(*[(FILE, b"x")] * 3), "more than 2 files"),
        (form(*[(FIELD, b"x")] * 21), "more than 20 fields"),
    ],
)
def test_what_is_wrong_is_said(body: bytes, says: str) -> None:
    with pytest.raises(BadForm, match=says):
        read(body, at_most=2)


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        (f"multipart/form-data; boundary={BOUNDARY}", BOUNDARY.encode()),
        ('Multipart/Form-Data; charset=utf-8; boundary="a b"', b"a b"),
        ("image/jpeg", None),
        ("", None),
        (None, None),
    ],
)
def test_a_boundary_is_in_the_type(kind: str | None, boundary: bytes | None) -> None:
    assert boundary_of(kind) == boundary


@pytest.mark.parametrize("kind", ["", "; boundary=", f"; boundary={'x' * 71}"])
def test_a_form_without_a_usable_boundary_is_none(kind: str) -> None:
    with pytest.raises(BadForm, match="1 to 70"):
        boundary_of(f"multipart/form-data{kind}")
