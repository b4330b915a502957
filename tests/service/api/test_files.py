"""Files over HTTP, by the unmodified openai SDK where it can ask for what is tested."""

import http.client
import json
from collections.abc import Iterator
from contextlib import closing

import httpx
import openai
import pytest
from openai import OpenAI
from redis import Redis

CONTENT = b'{"custom_id": "a"}\n'


@pytest.fixture
def sdk(client: httpx.Client, address: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{address}/v1", api_key="none needed", max_retries=0) as opened:
        yield opened


def upload(sdk: OpenAI, name: str = "requests.jsonl", content: bytes = CONTENT) -> str:
    return sdk.files.create(file=(name, content), purpose="batch").id


def test_a_file_comes_back_as_it_was_uploaded(sdk: OpenAI) -> None:
    created = sdk.files.create(file=("wünsche.jsonl", CONTENT), purpose="batch")

    assert (created.object, created.purpose, created.status) == ("file", "batch", "processed")
    assert (created.filename, created.bytes) == ("wünsche.jsonl", len(CONTENT))
    assert created.expires_at == created.created_at + 30 * 24 * 3600
    assert sdk.files.retrieve(created.id) == created
    assert sdk.files.content(created.id).read() == CONTENT


def test_a_large_file_is_streamed_through(sdk: OpenAI) -> None:
    content = b"x" * 3_000_000 + b"\n"

    assert sdk.files.content(upload(sdk, content=content * 4)).read() == content * 4


def test_lists_have_pages_also_while_their_files_are_deleted(sdk: OpenAI) -> None:
    ids = [upload(sdk) for _ in range(5)]

    assert [file.id for file in sdk.files.list(order="asc")] == ids
    assert sdk.files.list(limit=2).has_more
    listed = []
    for file in sdk.files.list(limit=2):
        assert sdk.files.delete(file.id).deleted
        listed.append(file.id)
    assert listed == ids[::-1]
    assert list(sdk.files.list()) == []


def test_what_was_deleted_is_gone(sdk: OpenAI, redis: Redis) -> None:
    file_id = upload(sdk)
    sdk.files.delete(file_id)

    for ask in (sdk.files.retrieve, sdk.files.content, sdk.files.delete):
        with pytest.raises(openai.NotFoundError) as error:
            ask(file_id)
        assert error.value.code == "file_not_found"
    assert redis.keys("wanserve:file:*") == []


def test_a_file_may_be_kept_for_a_shorter_time(sdk: OpenAI) -> None:
    file = sdk.files.create(
        file=("a.jsonl", CONTENT), purpose="batch", expires_after={"anchor": "created_at", "seconds": 7200}
    )

    assert file.expires_at == file.created_at + 7200


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"files": {"file": ("a.jsonl", CONTENT)}}, "purpose"),
        ({"files": {"file": ("a.jsonl", CONTENT)}, "data": {"purpose": "fine-tune"}}, "purpose"),
        ({"files": {"file": ("a.jsonl", b"")}, "data": {"purpose": "batch"}}, "file"),
        ({"files": {"other": ("a.jsonl", CONTENT)}, "data": {"purpose": "batch"}}, "file"),
        ({"files": {"purpose": (None, "batch"), "file": (None, "text")}}, "file"),
        ({"files": [("file", ("a", CONTENT)), ("file", ("b", CONTENT))], "data": {"purpose": "batch"}}, "body"),
        ({"files": {"file": ("a.jsonl", CONTENT)}, "data": {"purpose": "x" * 5000}}, "body"),
        ({"content": b"--x\r\nbroken", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, "file"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, "body"),
        ({"json": {"purpose": "batch"}}, "Content-Type"),
        ({}, "Content-Type"),
        (
            {
                "files": {"file": ("a.jsonl", CONTENT)},
                "data": {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "1"},
            },
            "expires_after",
        ),
        (
            {"files": {"file": ("a.jsonl", CONTENT)}, "data": {"purpose": "batch", "expires_after": "tomorrow"}},
            "expires_after",
        ),
    ],
)
def test_what_is_no_upload_is_refused_and_leaves_nothing(
    client: httpx.Client, redis: Redis, form: dict[str, object], param: str
) -> None:
    answer = client.post("/v1/files", **form)  # type: ignore[arg-type]

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert redis.keys("wanserve:file:*") == []
    assert redis.zcard("wanserve:garbage") == 0


@pytest.mark.parametrize("path", ["/v1/files", "/v1/verify"])
def test_a_file_beyond_the_bound_is_refused_before_it_is_sent(client: httpx.Client, path: str) -> None:
    place = client.base_url
    connection = http.client.HTTPConnection(place.host, place.port or 80, timeout=30)
    with closing(connection):
        connection.putrequest("POST", path)
        connection.putheader("Content-Type", "multipart/form-data; boundary=x")
        connection.putheader("Content-Length", str(3 * 2**30))
        connection.endheaders()
        answer = connection.getresponse()
        error = json.loads(answer.read())["error"]

    assert (answer.status, error["code"]) == (413, "body_too_large")
    assert "200 MiB" in error["message"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("../../etc/passwd", "passwd"), ("C:\\secret\\in.jsonl", "in.jsonl"), ("a\u202eb.jsonl", "ab.jsonl")],
)
def test_a_name_is_only_a_name(sdk: OpenAI, name: str, shown: str) -> None:
    file = sdk.files.create(file=(name, CONTENT), purpose="batch")

    assert file.filename == shown


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "limit=x", "order=up", "after=file_x"])
def test_a_list_that_can_not_be_is_refused(client: httpx.Client, query: str) -> None:
    answer = client.get(f"/v1/files?{query}")

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.partition("=")[0])
