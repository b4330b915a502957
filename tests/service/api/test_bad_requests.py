"""Bad requests, sent byte for byte: each is told what is legal, none leaves a record, none is a fault of ours."""

import json
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from redis import Redis

RECORDS = ("wanserve:video:*", "wanserve:endpoint:*", "wanserve:idempotency:*", "wanserve:key:*", "rq:job:*")
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
ANY_VIDEO = "video_" + "0" * 32
ANY_ENDPOINT = "endpoint_" + "0" * 32


@dataclass(frozen=True, slots=True)
class Bad:
    """A request, and what its refusal must say."""

    says: str
    """Part of the message."""

    param: str | None = None
    status: int = 400
    code: str = "invalid_request"
    method: str = "POST"
    target: str = "/v1/videos"
    body: bytes = b""
    headers: tuple[tuple[str, bytes], ...] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.target[:40]} {self.body[:60]!r} {self.headers!r}"[:120]


def fields(given: Mapping[str, Any], param: str, says: str, **more: Any) -> Bad:
    """A JSON body of a good prompt and these fields."""
    body = json.dumps({"prompt": "a red ball", **given}).encode()
    return Bad(says, param, body=body, headers=(("Content-Type", JSON.encode()),), **more)


def body(content: bytes, param: str, says: str, *, kind: str = JSON, **more: Any) -> Bad:
    return Bad(says, param, body=content, headers=(("Content-Type", kind.encode("latin-1")),), **more)


def path(method: str, target: str, says: str, *, status: int = 404, code: str, param: str | None = "id") -> Bad:
    return Bad(says, param, status, code, method, target)


def query(target: str, param: str, says: str, **more: Any) -> Bad:
    return Bad(says, param, method="GET", target=target, **more)


def header(name: str, value: bytes, param: str, says: str, **more: Any) -> Bad:
    """Beside a good body."""
    headers = (("Content-Type", JSON.encode()), (name, value))
    return Bad(says, param, body=b'{"prompt": "a red ball"}', headers=headers, **more)


def hook(url: object, says: str) -> Bad:
    return fields({"webhook": {"url": url}}, "webhook.url", says)


TYPES = [
    fields({"prompt": 5}, "prompt", "valid string"),
    fields({"prompt": None}, "prompt", "valid string"),
    fields({"prompt": ["a"]}, "prompt", "valid string"),
    fields({"prompt": {"text": "a"}}, "prompt", "valid string"),
    fields({"prompt": True}, "prompt", "valid string"),
    fields({"negative_prompt": 1}, "negative_prompt", "valid string"),
    fields({"model": 3}, "model", "valid string"),
    fields({"model": []}, "model", "valid string"),
    fields({"size": 256}, "size", "valid string"),
    fields({"size": [256, 256]}, "size", "valid string"),
    fields({"width": "wide", "height": 64}, "width", "valid integer"),
    fields({"width": 64.5, "height": 64}, "width", "valid integer"),
    fields({"height": {}, "width": 64}, "height", "valid integer"),
    fields({"num_frames": True}, "num_frames", "not true or false"),
    fields({"num_frames": "many"}, "num_frames", "valid integer"),
    fields({"num_frames": [17]}, "num_frames", "valid integer"),
    fields({"seconds": "x"}, "seconds", "valid number"),
    fields({"seconds": False}, "seconds", "not true or false"),
    fields({"fps": 7.5}, "fps", "valid integer"),
    fields({"num_inference_steps": "1e3"}, "num_inference_steps", "valid integer"),
    fields({"guidance_scale": "strong"}, "guidance_scale", "valid number"),
    fields({"guidance_scale_2": [1]}, "guidance_scale_2", "valid number"),
    fields({"flow_shift": {}}, "flow_shift", "valid number"),
    fields({"seed": 1.5}, "seed", "valid integer"),
    fields({"seed": "seven"}, "seed", "valid integer"),
    fields({"seed": True}, "seed", "not true or false"),
    fields({"quality": 1}, "quality", "valid string"),
    fields({"strict": "perhaps"}, "strict", "true or false"),
    fields({"strict": 2}, "strict", "true or false"),
    fields({"metadata": "text"}, "metadata", "valid dictionary"),
    fields({"metadata": ["a"]}, "metadata", "valid dictionary"),
    fields({"metadata": {"a": 1}}, "metadata", "valid string"),
    fields({"metadata": {"a": {"b": "c"}}}, "metadata", "valid string"),
    fields({"file_name": 7}, "file_name", "valid string"),
    fields({"webhook": "https://example.com/"}, "webhook", "valid dictionary"),
    fields({"webhook": []}, "webhook", "valid dictionary"),
    fields({"webhook": {}}, "webhook.url", "is missing"),
    fields({"webhook": {"url": "https://example.com/", "events": 5}}, "webhook.events", "valid tuple"),
]
BOUNDS = [
    fields({"prompt": ""}, "prompt", "say what to draw"),
    fields({"prompt": " \n\t　"}, "prompt", "say what to draw"),
    fields({"prompt": "x" * 4001}, "prompt", "at most 4000"),
    fields({"negative_prompt": "x" * 4001}, "negative_prompt", "at most 4000"),
    fields({"size": "big"}, "size", "match pattern"),
    fields({"size": "256"}, "size", "match pattern"),
    fields({"size": "-256x256"}, "size", "match pattern"),
    fields({"size": "0x0"}, "size", "16 to 8192"),
    fields({"size": "100000x100000"}, "size", "16 to 8192"),
    fields({"size": "9999999x16"}, "size", "match pattern"),
    fields({"width": 0, "height": 64}, "width", "greater than or equal to 16"),
    fields({"width": 99999, "height": 64}, "width", "less than or equal to 8192"),
    fields({"width": 64}, "height", "give width and height"),
    fields({"height": 64}, "width", "give width and height"),
    fields({"num_frames": 0}, "num_frames", "greater than or equal to 1"),
    fields({"num_frames": -(10**30)}, "num_frames", "greater than or equal to 1"),
    fields({"num_frames": 10**9}, "num_frames", "less than or equal to 10000"),
    fields({"seconds": 0}, "seconds", "greater than 0"),
    fields({"seconds": 1e300}, "seconds", "less than or equal to 600"),
    fields({"seconds": 1, "num_frames": 17}, "seconds", "Send one of them"),
    fields({"fps": 0}, "fps", "greater than or equal to 1"),
    fields({"fps": 241}, "fps", "less than or equal to 240"),
    fields({"num_inference_steps": 0}, "num_inference_steps", "greater than or equal to 1"),
    fields({"num_inference_steps": 1001}, "num_inference_steps", "less than or equal to 1000"),
    fields({"guidance_scale": -0.1}, "guidance_scale", "greater than or equal to 0"),
    fields({"guidance_scale": 101}, "guidance_scale", "less than or equal to 100"),
    fields({"guidance_scale": "NaN"}, "guidance_scale", "finite number"),
    fields({"guidance_scale": "Infinity"}, "guidance_scale", "finite number"),
    fields({"flow_shift": 0}, "flow_shift", "greater than 0"),
    fields({"seed": -2}, "seed", "greater than or equal to -1"),
    fields({"seed": 2**63}, "seed", "less than or equal to 9223372036854775807"),
    fields({"deadline_seconds": 0}, "deadline_seconds", "greater than or equal to 1"),
    fields({"deadline_seconds": 10**7}, "deadline_seconds", "less than or equal to 604800"),
    fields({"quality": "best"}, "quality", "known are: draft"),
    fields({"priority": "urgent"}, "priority", "'interactive', 'standard' or 'bulk'"),
    fields({"cache": "no"}, "cache", "'use' or 'bypass'"),
    fields({"metadata": {str(n): "x" for n in range(17)}}, "metadata", "at most 16"),
    fields({"file_name": "x" * 129}, "file_name", "at most 128"),
    fields({"file_name": "../../etc/passwd"}, "file_name", "match pattern"),
    fields({"file_name": "a\\b.mp4"}, "file_name", "match pattern"),
    fields({"file_name": 'a.mp4"; filename="b.exe'}, "file_name", "match pattern"),
    fields({"file_name": "a.mp4\r\nSet-Cookie: a=b"}, "file_name", "match pattern"),
    fields({"num_frames": 32, "strict": True}, "num_frames", "the nearest is 17"),
    fields({"colour": "red", "strict": "true"}, "colour", "Unknown field: colour"),
    fields({"model": "sora-2"}, "model", "sora-2", status=404, code="model_not_found"),
    fields({"input_reference": "data:image/png;base64,xx"}, "input_reference", "text-to-video"),
    fields({"image_url": "https://example.com/a.png"}, "image_url", "text-to-video"),
    fields({"prompt": "child porn"}, "prompt", "", code="moderation_blocked"),
]
HOOKS = [
    hook(5, "valid string"),
    hook("", "must begin with https:// or http://"),
    hook("example.com/hook", "must begin with https:// or http://"),
    hook("ftp://example.com/", "must begin with https:// or http://"),
    hook("file:///etc/passwd", "must begin with https:// or http://"),
    hook("javascript:alert(1)", "must begin with https:// or http://"),
    hook("http://10.0.0.1/", "not a public address"),
    hook("http://169.254.169.254/latest/meta-data", "not a public address"),
    hook("http://[::ffff:10.0.0.1]/", "not a public address"),
    hook("http://2130706433/", "four decimal numbers"),
    hook("http://0x7f.1/", "four decimal numbers"),
    hook("https://user:pw@example.com/", "user or password"),
    hook("http://example.com:22/", "port 22 is not allowed"),
    hook("https://example.com/#top", "fragment"),
    hook("https://example.com/a b", "spaces"),
    hook("https://例え.jp/", "punycode"),
    hook("https://example.com\\@10.0.0.1/", "backslashes"),
    hook("https://example.com/\r\nHost: 10.0.0.1", "spaces"),
    hook("https:///nothing", "not a URL with a host"),
    hook("https://example.com/" + "a" * 3000, "at most 2048"),
    fields({"webhook": {"url": "https://example.com/", "events": []}}, "webhook.events", "at least 1"),
    fields({"webhook": {"url": "https://example.com/", "events": "all"}}, "webhook.events", "'video.completed'"),
    fields({"webhook": {"url": "https://example.com/", "secret": "hunter2"}}, "webhook.secret", "whsec_"),
]
ENCODINGS = [
    body(b"", "body", "not valid JSON"),
    body(b"{", "body", "not valid JSON"),
    body(b'{"prompt": ', "body", "not valid JSON"),
    body(b'{"prompt": "a",}', "body", "not valid JSON"),
    body(b"{'prompt': 'a'}", "body", "not valid JSON"),
    body(b"[]", "body", "must be a JSON object"),
    body(b"null", "body", "must be a JSON object"),
    body(b'"prompt"', "body", "must be a JSON object"),
    body(b"\xff\xfe", "body", "not valid JSON"),
    body(b'{"prompt": "\xff"}', "body", "not valid JSON"),
    body(b'{"prompt": "\xc0\xaf"}', "body", "not valid JSON"),
    body(b'{"prompt": "\xed\xa0\x80"}', "prompt", "half characters"),
    body(b'{"prompt": "a\x00b"}', "body", "not valid JSON"),
    body(b'{"prompt": "a\\u0000b"}', "prompt", "without NUL"),
    body(b'{"prompt": "\\ud800"}', "prompt", "half characters"),
    body(b'{"prompt": "a", "me\\u0000ta": "b"}', "body", "without NUL"),
    body(b'{"prompt": "a", "metadata": {"\\udfff": "b"}}', "metadata", "half characters"),
    body(b'{"prompt": "a", "guidance_scale": NaN}', "guidance_scale", "finite number"),
    body(b'{"prompt": "a", "guidance_scale": -Infinity}', "guidance_scale", "finite number"),
    body(b'{"prompt": "a", "guidance_scale": 1e999}', "guidance_scale", "finite number"),
    body(b'{"prompt": "a", "extra": {"deep": [NaN]}}', "extra", "finite number"),
    body(b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}", "body", "not valid JSON"),
    body(b'{"prompt": "a", "seed": ' + b"9" * 4000 + b"}", "seed", "less than or equal to 9223372036854775807"),
    body(b'{"prompt": "a", "prompt": "b"}', "prompt", "send each field once"),
    body(b'{"prompt": "a", "metadata": {"k": "1", "k": "2"}}', "k", "send each field once"),
    body(b'{"prompt": "a", "\\ud800": 1, "\\ud800": 2}', "?", "send each field once"),
    body(b"[" * 50_000, "body", "not valid JSON"),
    body(b'{"a":' * 50_000, "body", "not valid JSON"),
    body(b'{"prompt": "a", "x": ' + b"[" * 20 + b"]" * 20 + b"}", "x", "8 levels"),
    body(b'{"prompt": "a", "metadata": ' + b'{"a":' * 20 + b"1" + b"}" * 20 + b"}", "metadata", "8 levels"),
    body(b'{"prompt": "a"}', "Content-Type", "send application/json", kind="text/plain"),
    body(b'{"prompt": "a"}', "Content-Type", "send application/json", kind="application/xml"),
    body(b'{"prompt": "a"}', "Content-Type", "send application/json", kind=""),
    body(b'{"prompt": "a"}', "Content-Type", "send application/json", kind="application/json, text/html"),
    body(b'{"prompt": "a"}', "Content-Type", "Content-Type: application/json", kind=FORM),
    Bad("send application/json", "Content-Type", body=b'{"prompt": "a"}'),
    body(b"prompt=%ff", "body", "UTF-8", kind=FORM),
    body(b"\xff=1", "body", "UTF-8", kind=FORM),
    body(b"prompt=a%00b", "prompt", "without NUL", kind=FORM),
    body(b"prompt=a&" + b"x=1&" * 300, "body", "at most 200 fields", kind=FORM),
    body(b"prompt=a&webhook=1&webhook[url]=2", "webhook", "contradict each other", kind=FORM),
    body(b"prompt=a&a" + b"[b]" * 50 + b"=1", "a", "8 levels", kind=FORM),
    body(b"prompt=a&a[b=1", "body", "name[member]", kind=FORM),
    body(b"prompt=a&=1", "body", "name[member]", kind=FORM),
    body(b"seed=1", "prompt", "is missing", kind=FORM),
    body(b"prompt=a&seed=NaN", "seed", "valid integer", kind=FORM),
    body(b"prompt=a&metadata=%7B%22a%22%3A", "metadata", "valid dictionary", kind=FORM),
]
PART = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na red ball\r\n'
MULTIPARTS = [
    body(b"x", "body", "not valid multipart", kind="multipart/form-data"),
    body(b"x", "body", "not valid multipart", kind=MULTIPART),
    body(b"", "body", "not valid multipart", kind=MULTIPART),
    body(PART, "body", "closing boundary", kind=MULTIPART),
    body(PART[:-10], "body", "closing boundary", kind=MULTIPART),
    body(PART + b"--b", "body", "closing boundary", kind=MULTIPART),
    body(PART + b"--b\r\nContent-Disposition: form-data; na", "body", "closing boundary", kind=MULTIPART),
    body(PART + b"--c--\r\n", "body", "closing boundary", kind=MULTIPART),
    body(b"--b\r\n\r\na red ball\r\n--b--\r\n", "body", "not valid multipart", kind=MULTIPART),
    body(b"--b\r\nContent-Disposition: form-data\r\n\r\na\r\n--b--\r\n", "body", "not valid multipart", kind=MULTIPART),
    body(b"--b\r\nno header here\r\n\r\na\r\n--b--\r\n", "body", "not valid multipart", kind=MULTIPART),
    body(PART.replace(b"a red ball", b"a\x00b") + b"--b--\r\n", "prompt", "without NUL", kind=MULTIPART),
    body(PART.replace(b'"prompt"', b'"a[b"') + b"--b--\r\n", "body", "name[member]", kind=MULTIPART),
    body(PART * 201 + b"--b--\r\n", "body", "200", kind=MULTIPART),
    body(
        PART + PART.replace(b'"prompt"', b'"input_reference"; filename="a.png"') + b"--b--\r\n",
        "input_reference",
        "text-to-video",
        kind=MULTIPART,
    ),
]
PATHS = [
    path("GET", f"/v1/videos/{ANY_VIDEO}", "There is no video", code="video_not_found"),
    path("DELETE", f"/v1/videos/{ANY_VIDEO}", "There is no video", code="video_not_found"),
    path("POST", f"/v1/videos/{ANY_VIDEO}/cancel", "There is no video", code="video_not_found"),
    path("GET", f"/v1/videos/{ANY_VIDEO}/content", "There is no video", code="video_not_found"),
    path("GET", f"/v1/videos/{ANY_VIDEO}/events", "There is no video", code="video_not_found"),
    path("GET", "/v1/videos/%00", "There is no video", code="video_not_found"),
    path("GET", "/v1/videos/%ff%fe", "There is no video", code="video_not_found"),
    path("GET", "/v1/videos/..", "There is no video", code="video_not_found"),
    path("GET", "/v1/videos/%2e%2e", "There is no video", code="video_not_found"),
    path("GET", "/v1/videos/*", "There is no video", code="video_not_found"),
    path("GET", "/v1/videos/video_%0d%0aSet-Cookie:a=b", "There is no video", code="video_not_found"),
    path("GET", "/v1/videos/" + "x" * 10_000, "There is no video", code="video_not_found"),
    path("DELETE", "/v1/videos/wanserve:cards", "There is no video", code="video_not_found"),
    path("GET", "/v1/videos/..%2f..%2fetc%2fpasswd", "see /openapi.json", code="not_found", param=None),
    path("GET", "/v1/videos/a/../../health", "see /openapi.json", code="not_found", param=None),
    path("GET", "/v2/videos", "see /openapi.json", code="not_found", param=None),
    path("GET", "/v1/models/sora-2", "sora-2", code="model_not_found", param="model"),
    path("GET", f"/v1/webhook_endpoints/{ANY_ENDPOINT}", "no webhook endpoint", code="webhook_endpoint_not_found"),
    path("DELETE", "/v1/webhook_endpoints/%00", "no webhook endpoint", code="webhook_endpoint_not_found"),
    path("PUT", "/v1/videos", "PUT is not possible", status=405, code="method_not_allowed", param=None),
    path("PATCH", f"/v1/videos/{ANY_VIDEO}", "not possible", status=405, code="method_not_allowed", param=None),
    path("BREW", "/v1/videos", "BREW is not possible", status=405, code="method_not_allowed", param=None),
]
QUERIES = [
    query("/v1/videos?limit=0", "limit", "greater than or equal to 1"),
    query("/v1/videos?limit=101", "limit", "less than or equal to 100"),
    query("/v1/videos?limit=ten", "limit", "valid integer"),
    query("/v1/videos?limit=" + "9" * 5000, "limit", "integer"),
    query("/v1/videos?order=up", "order", "'asc' or 'desc'"),
    query("/v1/videos?after=video_x", "after", "there is no video"),
    query("/v1/videos?after=%00", "after", "there is no video"),
    query(f"/v1/videos/{ANY_VIDEO}/content?variant=gif", "variant", "'video', 'thumbnail' or 'spritesheet'"),
    query(f"/v1/videos/{ANY_VIDEO}/content?expires=soon", "expires", "valid integer"),
    query(f"/v1/videos/{ANY_VIDEO}/content?token=x", None, "not valid", status=403, code="forbidden"),
    query(f"/v1/videos/{ANY_VIDEO}/content?token=%ff&expires=9", None, "not valid", status=403, code="forbidden"),
    query("/v1/webhook_endpoints?limit=-1", "limit", "greater than or equal to 1"),
    query("/v1/webhook_endpoints?after=x", "after", "there is no webhook endpoint"),
    query(f"/v1/webhook_endpoints/{ANY_ENDPOINT}/deliveries?status=lost", "status", "'pending'"),
]
HEADERS = [
    header("Idempotency-Key", b"", "idempotency-key", "at least 1"),
    header("Idempotency-Key", b"x" * 256, "idempotency-key", "at most 255"),
    header("Idempotency-Key", b"x" * 30_000, "idempotency-key", "at most 255"),
    header("Authorization", b"Bearer ws_x", None, "ws_", status=401, code="invalid_api_key"),
    header("Authorization", b"Bearer ws_\xff\xfe", None, "ws_", status=401, code="invalid_api_key"),
    header("Origin", b"https://evil.example", None, "may not use", status=403, code="forbidden"),
    header("Origin", b"http://[", None, "may not use", status=403, code="forbidden"),
    header("Sec-Fetch-Site", b"cross-site", None, "another site", status=403, code="forbidden"),
]
ENDPOINTS = [
    fields({}, "url", "is missing", target="/v1/webhook_endpoints"),
    fields({"url": "http://192.168.0.1/"}, "url", "not a public", target="/v1/webhook_endpoints"),
    fields({"url": "https://example.com/", "name": "x" * 129}, "name", "at most 128", target="/v1/webhook_endpoints"),
    fields(
        {"url": "https://example.com/", "event_types": ["video.started"]},
        "event_types",
        "'video.completed' or 'video.failed'",
        target="/v1/webhook_endpoints",
    ),
    fields({"enabled": "maybe"}, "enabled", "true or false", target=f"/v1/webhook_endpoints/{ANY_ENDPOINT}"),
    fields(
        {"keep_old_secret_active_for_24_hours": 7},
        "keep_old_secret_active_for_24_hours",
        "true or false",
        target=f"/v1/webhook_endpoints/{ANY_ENDPOINT}/rotate_secret",
    ),
    fields({"event_type": "x"}, "event_type", "'video.c", target=f"/v1/webhook_endpoints/{ANY_ENDPOINT}/test"),
]
BAD = TYPES + BOUNDS + HOOKS + ENCODINGS + MULTIPARTS + PATHS + QUERIES + HEADERS + ENDPOINTS


def test_the_table_is_long_enough() -> None:
    assert len({str(bad) for bad in BAD}) >= 120


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_a_bad_request_is_refused_with_what_is_legal(client: httpx.Client, redis: Redis, bad: Bad) -> None:
    status, headers, content = send(client.base_url.port or 80, bad)

    assert status == bad.status, content
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"].startswith("req_")
    assert "set-cookie" not in headers
    error = json.loads(content)["error"]
    assert (error["code"], (error["param"] or "").lower()) == (bad.code, (bad.param or "").lower())
    assert bad.says in error["message"]
    assert [key for pattern in RECORDS for key in redis.scan_iter(pattern)] == []


def test_a_body_that_ends_before_its_length_is_no_fault_of_ours(
    client: httpx.Client, redis: Redis, wait_until: Callable[..., None]
) -> None:
    before = num_answered(client)
    with socket.create_connection(("127.0.0.1", client.base_url.port or 80), timeout=30) as connection:
        connection.sendall(
            b"POST /v1/videos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b'Content-Length: 100\r\n\r\n{"prompt": "a'
        )

    wait_until(lambda: num_answered(client) == before + 1)
    assert [key for pattern in RECORDS for key in redis.scan_iter(pattern)] == []


def num_answered(client: httpx.Client) -> int:
    """POSTs of a video that were told that they are wrong."""
    [*found] = re.findall(
        r'requests_total{method="POST",route="/videos",status="400"} (\d+)', client.get("/metrics").text
    )
    return sum(map(int, found))


def send(port: int, bad: Bad) -> tuple[int, dict[str, str], bytes]:
    """Without a client that would mend it."""
    lines = [f"{bad.method} {bad.target} HTTP/1.1".encode(), f"Host: 127.0.0.1:{port}".encode(), b"Connection: close"]
    lines += [name.encode() + b": " + value for name, value in bad.headers]
    lines += [b"Content-Length: %d" % len(bad.body), b"", bad.body]
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"\r\n".join(lines))
        answer = b""
        while received := connection.recv(65536):
            answer += received
    head, _, content = answer.partition(b"\r\n\r\n")
    first, *others = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in others)}
    return int(first.split()[1]), headers, content
