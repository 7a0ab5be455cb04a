"""Lists on disk are the lists that they would be in memory, however long."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from plantops.ondisk import First, Rows, Sorted

few = settings(deadline=None, max_examples=40)
TEXT = st.text(max_size=6) | st.just("caf\udce9\n")
ROWS = st.lists(st.tuples(TEXT, st.integers(-1, 2**63), st.none() | TEXT), max_size=60)


@few
@given(ROWS)
def test_rows_are_as_they_came_for_several_who_read_at_once(rows: list[tuple[object, ...]]) -> None:
    listed, places = Rows(), []
    for row in rows:
        places.append(listed.end)
        listed.add(*row)
        assert [tuple(one) for one in listed] == rows[: len(places)]
    assert len(listed) == len(rows)
    assert [tuple(listed.at(place)) for place in places] == rows
    first, second = iter(listed), iter(listed)
    assert [(tuple(one), tuple(next(second))) for one in first] == [(one, one) for one in rows]


@few
@given(ROWS, st.integers(1, 9))
def test_sorted_rows_are_those_of_a_stable_sort(rows: list[tuple[str, int, str]], together: int) -> None:
    listed = Sorted(together=together)
    for row in rows:
        listed.add(*row)
    for _ in range(2):
        assert [tuple(one) for one in listed] == sorted(rows, key=lambda row: row[0])


def test_a_long_list_is_read_in_pieces() -> None:
    listed = Sorted(together=100)
    rows = [(f"{at * 7919 % 5000:05d}", "x" * (at % 300)) for at in range(5000)]
    for row in rows:
        listed.add(*row)
    assert [tuple(one) for one in listed] == sorted(rows)


@few
@given(st.lists(st.integers(0, 30), max_size=60))
def test_the_first_of_each_md5_is_remembered(numbers: list[int]) -> None:
    table, seen = First(len(numbers)), dict[int, int]()
    for place, number in enumerate(numbers):
        md5 = f"{number % 4:016x}{number:016x}"  # alike in the part that says where they are looked for
        assert table.of(md5, place) == seen.setdefault(number, place)


def test_nothing_is_left_where_they_lay(tmp_path: Path) -> None:
    rows, listed, table = Rows(tmp_path), Sorted(tmp_path), First(3, tmp_path)
    rows.add(1)
    listed.add("a")
    table.of("0" * 32, 0)
    assert [*rows, *listed] == [[1], ["a"]]
    assert list(tmp_path.iterdir()) == []
