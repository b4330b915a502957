"""Lines of a batch's file: where they end, and what is said of those that are no request."""

import json
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest

from service.batches import lines
from service.batches.lines import BYTE_ORDER_MARK, MAX_LINE_BYTES, Line, custom_id_of, parse_line, read_lines
from service.errors import InvalidRequest
from service.storage import FolderStorage
from tests.service.batches.conftest import line

KEY = "files/file_1"


def stored(folder: Path, content: bytes) -> FolderStorage:
    source = folder / "source"
    source.write_bytes(content)
    storage = FolderStorage(folder / "objects")
    storage.ensure_bucket()
    storage.put_file(KEY, source, content_type="application/jsonl")
    return storage


def contents(storage: FolderStorage, size_bytes: int) -> list[bytes | None]:
    return [each.content for each in read_lines(storage, KEY, size_bytes=size_bytes)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n \r\n\n", []),
        (b"a", [b"a"]),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\n\n\nb", [b"a", b"b"]),
        (b"a\r\nb\r\n", [b"a\r", b"b\r"]),
    ],
)
def test_lines_end_at_newlines_and_empty_ones_do_not_count(
    tmp_path: Path, content: bytes, expected: list[bytes]
) -> None:
    assert contents(stored(tmp_path, content), len(content)) == expected


@pytest.mark.parametrize("portion_bytes", [1, 2, 3, 7, 1000])
def test_reading_may_begin_at_any_line_and_meets_portions_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portion_bytes: int
) -> None:
    monkeypatch.setattr(lines, "PORTION_BYTES", portion_bytes)
    content = b"one\n\ntwo\nthree"
    storage = stored(tmp_path, content)
    whole = list(read_lines(storage, KEY, size_bytes=len(content)))

    assert [(each.number, each.content) for each in whole] == [(1, b"one"), (2, b"two"), (3, b"three")]
    for before, after in pairwise(whole):
        rest = read_lines(storage, KEY, size_bytes=len(content), start=before.end, number=before.number + 1)
        assert next(rest) == after


def test_a_line_that_is_too_long_is_passed_over_and_the_next_is_read(tmp_path: Path) -> None:
    long = b"x" * (3 * MAX_LINE_BYTES)
    for content in (long + b"\nnext", b"first\n" + long, b"x" * MAX_LINE_BYTES + b"\n" + long + b"\nnext\n"):
        found = contents(stored(tmp_path, content), len(content))
        assert found == [None if len(each) > MAX_LINE_BYTES else each for each in content.split(b"\n") if each]


def test_fifty_thousand_lines_take_no_more_memory_than_a_portion(tmp_path: Path) -> None:
    content = b"\n".join(line(str(number), body={"prompt": "p" * 200}).encode() for number in range(50_000))
    storage = stored(tmp_path, content)
    tracemalloc.start()
    try:
        num_lines = sum(1 for _ in read_lines(storage, KEY, size_bytes=len(content)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert num_lines == 50_000
    assert len(content) > 14e6
    assert peak < 4e6


@pytest.mark.parametrize(
    ("content", "param", "words"),
    [
        (None, None, "longer than 1024 KiB"),
        (b"{", None, "not valid JSON"),
        (b"\xff\xfe", None, "not valid JSON"),
        (b"[" * 100_000, None, "not valid JSON"),
        (b"[1]", None, "must be a JSON object"),
        (b'"text"', None, "must be a JSON object"),
        (line("a", custom_id=None).encode(), "custom_id", "string"),
        (line("a", custom_id=7).encode(), "custom_id", "string"),
        (line("").encode(), "custom_id", "at least 1"),
        (line("a" * 513).encode(), "custom_id", "at most 512"),
        (b'{"custom_id": "\\ud800", "method": "POST", "url": "/v1/videos", "body": {}}', "custom_id", "unicode"),
        (line("a", method="GET").encode(), "method", "POST"),
        (line("a", url="/v1/images").encode(), "url", "/v1/videos"),
        (line("a", url="https://example.com/v1/videos").encode(), "url", "/v1/videos"),
        (line("a", body="prompt").encode(), "body", "dictionary"),
        (b'{"custom_id": "a", "method": "POST", "url": "/v1/videos"}', "body", "missing"),
    ],
)
def test_what_is_no_request_is_told_by_its_field(content: bytes | None, param: str | None, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as error:
        parse_line("batch_1", Line(1, 0, content))

    assert error.value.param == param


def test_a_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    request = parse_line("batch_1", Line(1, 0, BYTE_ORDER_MARK + line("a").encode() + b"\r"))

    assert (request.custom_id, request.body) == ("a", {"prompt": "a"})


def test_names_are_the_batchs_and_the_numbers_own() -> None:
    first, again, second = (parse_line("batch_1", Line(n, 0, line("a").encode())) for n in (1, 1, 2))
    other = parse_line("batch_2", Line(1, 0, line("a").encode()))

    assert first.video_id == again.video_id
    assert len({first.video_id, second.video_id, other.video_id, first.job_id, first.asset_id}) == 5
    assert first.video_id.startswith("video_")


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (line("a", url="/elsewhere").encode(), "a"),
        (b"{", None),
        (b"[1]", None),
        (None, None),
        (json.dumps({"custom_id": 7}).encode(), None),
        (b'{"custom_id": "\\ud800"}', None),
    ],
)
def test_a_line_is_called_by_its_name_where_it_has_one(content: bytes | None, name: str | None) -> None:
    assert custom_id_of(Line(1, 0, content)) == name
