"""Request bodies as one mapping of fields, whether they come as JSON, multipart or urlencoded.

SDKs flatten nested fields with brackets (webhook[url], lora[][path]) or send them as JSON text; both are undone
here. What the fields mean is not known here.
"""

import json
import math
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from service.errors import BodyTooLarge, InvalidRequest

Fields = dict[str, Any]

MAX_BODY_BYTES = 1024 * 1024
SMALL_BODY_BYTES = 16 * 1024
"""Longer ones are worked through on a thread, beside the event loop."""

MAX_MULTIPART_BYTES = 16 * 1024 * 1024
"""Enough for the picture of an image-to-video request to arrive, so that its refusal can say why."""

MAX_FORM_FIELDS = 200
MAX_EPILOGUE_BYTES = 64
"""After the last boundary: a line break, where clients send anything at all."""

MAX_DEPTH = 8
TEXT_FIELDS = ("prompt", "negative_prompt")
"""Never taken for JSON text, and empty is a value."""

WRAPPERS = ("extra_body", "extra_params")
"""Objects whose members other servers read as if they stood at the top."""

LIST_FIELDS = frozenset({"scopes", "events", "event_types", "input"})
"""Of several values: forms send the name again for each."""

_NAME = re.compile(r"^([^\[\]]+)((?:\[[^\[\]]*\])*)$")


async def read_fields(request: Request) -> Fields:
    """The body's fields. Raises InvalidRequest and BodyTooLarge."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    match kind:
        case "application/json":
            return await _read_by(parse_json, request)
        case "application/x-www-form-urlencoded":
            return await _read_by(parse_urlencoded, request)
        case "multipart/form-data":
            stream = limited(request, limit=MAX_MULTIPART_BYTES)
            return legal(nested(await _multipart_pairs(request.headers, stream)))
        case _:
            raise InvalidRequest(
                f"Content-Type {kind or '(none)'} is not understood: send application/json, multipart/form-data "
                "or application/x-www-form-urlencoded.",
                param="Content-Type",
            )


async def _read_by(parse: Callable[[bytes], Fields], request: Request) -> Fields:
    body = await _read(request, limit=MAX_BODY_BYTES)
    if len(body) <= SMALL_BODY_BYTES:
        return legal(parse(body))
    # A megabyte of small fields takes a good part of a second: nobody else should wait for it.
    return await run_in_threadpool(lambda: legal(parse(body)))


async def read_fields_if_any(request: Request) -> Fields:
    """As read_fields(), of a body that may be left out."""
    return await read_fields(request) if "content-type" in request.headers else {}


def legal(fields: Fields) -> Fields:
    """The fields of an object from outside, wrappers undone. Raises InvalidRequest for what nobody can use."""
    _check_values(fields)
    return _unwrapped(fields)


def parse_json(body: bytes) -> Fields:
    """A JSON object. Raises InvalidRequest."""
    try:
        fields = json.loads(body, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as e:
        reason = str(e) if isinstance(e, json.JSONDecodeError) else "it can't be read"
        raise InvalidRequest(f"The body is not valid JSON: {reason}.", param="body") from e
    if not isinstance(fields, dict):
        raise InvalidRequest("The body must be a JSON object.", param="body")
    return fields


def _once_each(pairs: list[tuple[str, Any]]) -> Fields:
    """An object; of two members of one name other programs may take the other one. Raises InvalidRequest."""
    members = dict(pairs)
    if len(members) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        # Half of a character can't be sent back.
        shown = twice[:80].encode(errors="replace").decode()
        raise InvalidRequest(f"{shown} is given more than once: send each field once.", param=shown)
    return members


def parse_urlencoded(body: bytes) -> Fields:
    """Form fields. Raises InvalidRequest."""
    if body.lstrip().startswith(b"{"):
        raise InvalidRequest(
            "The body looks like JSON but is sent as a form: add the header Content-Type: application/json.",
            param="Content-Type",
        )
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FORM_FIELDS)
    except ValueError as e:
        raise InvalidRequest(
            f"The body is not a valid form: at most {MAX_FORM_FIELDS} fields of UTF-8, percent-encoded.", param="body"
        ) from e
    return nested(pairs)


def nested(pairs: Iterable[tuple[str, str]]) -> Fields:
    """Form fields with their brackets undone: a[b]=1 is {"a": {"b": "1"}}, a[]=1 is {"a": ["1"]}.

    Of a name that comes again the last value counts, but in LIST_FIELDS, where it makes a list.

    Empty values are left out: a form sends them for what was not filled in. Raises InvalidRequest.
    """
    fields: Fields = {}
    repeated: dict[str, list[Any]] = {}
    for name, text in pairs:
        found = _NAME.match(name)
        if found is None:
            raise InvalidRequest(
                f"{name[:80]!r} is not a field's name: it is name, name[member] or name[].", param="body"
            )
        if text == "" and name not in TEXT_FIELDS:
            continue
        path = [found[1], *re.findall(r"\[([^\[\]]*)\]", found[2])]
        value = text if path[0] in TEXT_FIELDS else _from_json_text(text)
        if name in LIST_FIELDS and name in fields:
            fields[name] = repeated.setdefault(name, [fields[name]])
            repeated[name].append(value)
        else:
            _put(fields, path, value)
    return fields


async def _read(request: Request, *, limit: int) -> bytes:
    return b"".join([chunk async for chunk in limited(request, limit=limit)])


async def limited(request: Request, *, limit: int) -> AsyncGenerator[bytes, None]:
    """The body as it comes in. Raises BodyTooLarge as soon as it is known to be."""
    announced = request.headers.get("content-length", "")
    num_bytes = int(announced) if announced.isdecimal() else 0
    _check_size(num_bytes, limit)
    num_bytes = 0
    try:
        async for chunk in request.stream():
            num_bytes += len(chunk)
            _check_size(num_bytes, limit)
            yield chunk
    except ClientDisconnect as e:
        raise InvalidRequest(f"The body was cut short after {num_bytes} bytes.", param="body") from e


def _check_size(num_bytes: int, limit: int) -> None:
    if num_bytes > limit:
        raise BodyTooLarge(f"The body is larger than {_shown(limit)}.", param="body")


def _shown(num_bytes: int) -> str:
    mebibyte = 1024 * 1024
    return f"{num_bytes // mebibyte} MiB" if num_bytes > mebibyte else f"{num_bytes // 1024} KiB"


async def _multipart_pairs(headers: Headers, stream: AsyncGenerator[bytes, None]) -> list[tuple[str, str]]:
    whole = _ended(stream, boundary=_boundary_in(headers))
    parser = MultiPartParser(headers, whole, max_files=4, max_fields=MAX_FORM_FIELDS, max_part_size=MAX_BODY_BYTES)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as e:
        reason = e.message if isinstance(e, MultiPartException) else "it can't be read"
        raise InvalidRequest(f"The body is not valid multipart/form-data: {reason}", param="body") from e
    try:
        return [(name, _text_of(part)) for name, part in form.multi_items()]
    finally:
        await form.close()


def _boundary_in(headers: Headers) -> bytes:
    """Empty where there is none, which the parser refuses."""
    _kind, options = parse_options_header(headers.get("content-type", ""))
    return options.get(b"boundary", b"")


async def _ended(stream: AsyncGenerator[bytes, None], *, boundary: bytes) -> AsyncGenerator[bytes, None]:
    """The stream, which must end with its last boundary: the parser takes half a body for a whole one."""
    last = b"--" + boundary + b"--"
    tail = b""
    async for chunk in stream:
        tail = (tail + chunk)[-len(last) - MAX_EPILOGUE_BYTES :]
        yield chunk
    if last not in tail:
        raise InvalidRequest(
            "The body is not valid multipart/form-data: it was cut short, its closing boundary is missing.",
            param="body",
        )


def _text_of(part: UploadFile | str) -> str:
    """A file's content is of no use to a text-to-video model; its name tells that one was sent."""
    return (part.filename or "file") if isinstance(part, UploadFile) else part


def _from_json_text(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _put(fields: Fields, path: list[str], value: Any) -> None:
    """Store a value at a path of keys; an empty key appends to a list."""
    if len(path) > MAX_DEPTH:
        raise _too_deep(path[0])
    place: Any = fields
    for key, following in pairwise(path):
        place = _step(place, key, [] if following == "" else {}, path)
    match place, path[-1]:
        case list(), "":
            place.append(value)
        case dict(), key if key:
            place[key] = value
        case _:
            raise _contradiction(path)


def _step(place: Any, key: str, empty: Any, path: list[str]) -> Any:
    """The container below key; lora[][path]=… begins a new element when the last one has that member."""
    match place:
        case list() if key == "":
            is_new = not place or not isinstance(place[-1], dict) or path[-1] in place[-1]
            if is_new:
                place.append(empty)
            return place[-1]
        case dict() if key:
            found = place.setdefault(key, empty)
            if type(found) is type(empty):
                return found
    raise _contradiction(path)


def _contradiction(path: list[str]) -> InvalidRequest:
    return InvalidRequest(f"{path[0]} is given in two ways that contradict each other.", param=path[0])


def _check_values(fields: Fields) -> None:
    for name, value in fields.items():
        _check_text(name, param="body")
        _check_value(value, param=name, depth=1)


def _check_value(value: Any, *, param: str, depth: int) -> None:
    """Raises InvalidRequest for what JSON parsers let through and nobody can use."""
    if depth > MAX_DEPTH:
        raise _too_deep(param)
    match value:
        case float() if not math.isfinite(value):
            raise InvalidRequest(f"{param} must be a finite number, not {value}.", param=param)
        case str():
            _check_text(value, param=param)
        case dict():
            for name, member in value.items():
                _check_text(name, param=param)
                _check_value(member, param=param, depth=depth + 1)
        case list():
            for member in value:
                _check_value(member, param=param, depth=depth + 1)


def _too_deep(param: str) -> InvalidRequest:
    return InvalidRequest(f"{param} is nested too deeply: {MAX_DEPTH} levels are the most.", param=param)


def _check_text(text: str, *, param: str) -> None:
    try:
        # Fails for half of a surrogate pair, and needs no loop of ours.
        text.encode()
    except UnicodeEncodeError:
        is_text = False
    else:
        is_text = "\0" not in text
    if not is_text:
        raise InvalidRequest(
            f"{param} holds characters that are not text: send Unicode, without NUL and half characters.", param=param
        )


def _unwrapped(fields: Fields) -> Fields:
    """Members of the wrapper objects, moved to the top unless something stands there already."""
    lifted: Fields = {}
    for name in WRAPPERS:
        if isinstance(fields.get(name), dict):
            lifted |= fields[name]
    kept = {name: value for name, value in fields.items() if name not in WRAPPERS or not isinstance(value, dict)}
    return lifted | kept
