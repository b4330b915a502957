"""Bodies in every encoding that clients use."""

import json

import pytest

from service.api.bodies import nested, parse_json, parse_urlencoded
from service.errors import InvalidRequest


def test_brackets_become_objects_and_lists() -> None:
    fields = nested(
        [
            ("webhook[url]", "https://example.com"),
            ("webhook[events][]", "video.completed"),
            ("webhook[events][]", "video.failed"),
            ("lora[][path]", "a"),
            ("lora[][scale]", "1"),
            ("lora[][path]", "b"),
        ]
    )

    assert fields == {
        "webhook": {"url": "https://example.com", "events": ["video.completed", "video.failed"]},
        "lora": [{"path": "a", "scale": "1"}, {"path": "b"}],
    }


def test_json_text_in_a_form_field_is_read() -> None:
    assert nested([("metadata", '{"a": "b"}'), ("tags", "[1]")]) == {"metadata": {"a": "b"}, "tags": [1]}


def test_a_prompt_that_looks_like_json_stays_text() -> None:
    fields = {"prompt": '{"a": 1}', "negative_prompt": "[x]"}

    assert nested(fields.items()) == fields


def test_text_that_only_begins_like_json_stays_text() -> None:
    assert nested([("file_name", "[draft] one")]) == {"file_name": "[draft] one"}


def test_empty_form_fields_are_not_given_except_prompts() -> None:
    assert nested([("seed", ""), ("size", ""), ("negative_prompt", "")]) == {"negative_prompt": ""}


def test_the_last_of_equal_fields_wins() -> None:
    assert nested([("seed", "1"), ("seed", "2")]) == {"seed": "2"}


def test_a_field_of_several_values_may_come_once_for_each() -> None:
    pairs = [("scopes", "read"), ("seed", "1"), ("scopes", "create"), ("scopes", "review")]
    assert nested(pairs) == {"scopes": ["read", "create", "review"], "seed": "1"}
    assert nested([("scopes", "read")]) == {"scopes": "read"}


def test_urlencoded_text_is_decoded_as_utf8() -> None:
    assert parse_urlencoded(b"prompt=%E7%BA%A2%E7%90%83+%2B1&seed=3") == {"prompt": "红球 +1", "seed": "3"}


@pytest.mark.parametrize(
    "pairs",
    [
        [("a", "1"), ("a[b]", "2")],
        [("a[b]", "2"), ("a[]", "1")],
        [("a[]", "1"), ("a[b]", "2")],
        [("[a]", "1")],
        [("a[b", "1")],
        [("", "1")],
        [("a" + "[b]" * 50, "1")],
    ],
)
def test_contradicting_or_malformed_names_are_refused(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidRequest):
        nested(pairs)


NO_OBJECTS = [b"", b"{", b"[1]", b'"a"', b"null", b"\xff\xfe", b"[" * 100_000, b'{"seed":' + b"9" * 5000 + b"}"]


@pytest.mark.parametrize("body", NO_OBJECTS)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_json(body)


def test_json_keeps_its_types() -> None:
    fields = {"prompt": "红球", "seed": 3, "strict": True, "metadata": {"a": "b"}}
    assert parse_json(json.dumps(fields).encode()) == fields


def test_json_sent_as_a_form_is_told_so() -> None:
    with pytest.raises(InvalidRequest, match="Content-Type: application/json"):
        parse_urlencoded(b'{"prompt": "a red ball"}')
