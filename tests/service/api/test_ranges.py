"""Ranges and validators as RFC 9110 has them."""

import pytest

from service.api.ranges import is_same_file, names_etag, wanted_range
from service.errors import RangeNotSatisfiable


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("bytes=0-3", (0, 4)),
        ("bytes=4-", (4, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=8-99", (8, 10)),
        ("bytes=0-0", (0, 1)),
        ("Bytes=2-4", (2, 5)),
        (None, None),
        ("bytes=-", None),
        ("bytes=4-2", None),
        ("bytes=0-1,4-5", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
        (f"bytes={'9' * 5000}-", None),
        (f"bytes=0-{'9' * 5000}", None),
    ],
)
def test_one_range_is_understood_and_others_get_the_whole_file(header: str | None, wanted: object) -> None:
    assert wanted_range(header, size_bytes=10) == wanted


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-12", "bytes=-0"])
def test_a_range_outside_the_file_is_refused_with_its_size(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as refused:
        wanted_range(header, size_bytes=10)
    assert refused.value.size_bytes == 10


@pytest.mark.parametrize(
    ("header", "is_named"),
    [(None, False), ('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False)],
)
def test_if_none_match_compares_weakly(header: str | None, *, is_named: bool) -> None:
    assert names_etag(header, '"a"') is is_named


@pytest.mark.parametrize(("header", "is_same"), [(None, True), ('"a"', True), ('W/"a"', False), ("a date", False)])
def test_if_range_compares_strongly(header: str | None, *, is_same: bool) -> None:
    assert is_same_file(header, '"a"') is is_same
