"""/docs: the OpenAPI document as one page for people. No script, and nothing that comes from elsewhere."""

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from service.api.pages import HEADERS

router = APIRouter(include_in_schema=False)

Schema = Mapping[str, Any]
POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "maxProperties": "at most {}",
}


@router.get("/docs")
def get_reference(request: Request) -> HTMLResponse:
    page = reference_page(request.app.openapi())
    return HTMLResponse(page, headers={**HEADERS, "Content-Security-Policy": POLICY})


def reference_page(document: Schema) -> str:
    """The whole page."""
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<title>{title}</title><link rel="stylesheet" href="/console/reference.css"></head><body>',
            f"<h1>{title}</h1><p>{escape(document['info']['description'])}</p>",
            '<p>The same for programs: <a href="/openapi.json">/openapi.json</a></p>',
            *_contents(document),
            *_operations(document),
            "<h2>Objects</h2>",
            *_objects(document["components"]["schemas"]),
            "</body></html>",
        ]
    )


def type_text(schema: Schema) -> str:
    """HTML: what values a schema takes, in a few words."""
    match schema:
        case {"$ref": str(reference)}:
            name = escape(reference.rpartition("/")[2])
            return f'<a href="#{name}">{name}</a>'
        case {"anyOf": list(kinds)}:
            return " or ".join(type_text(kind) for kind in kinds)
        case {"enum": list(values)}:
            return escape(", ".join(map(_json, values)))
        case {"const": value}:
            return escape(_json(value))
        case {"type": "array", "items": items}:
            return f"list of {type_text(items)}"
        case {"type": "object", "additionalProperties": {"type": str(kind)}}:
            return f"object of {escape(kind)}s"
        case _:
            return escape(", ".join([str(schema.get("type", "anything")), *_bounds(schema)]))


def _contents(document: Schema) -> Iterator[str]:
    yield "<ul>"
    for path, method, operation in _all_operations(document):
        name = escape(operation["operationId"])
        yield f'<li><a href="#{name}"><code>{method} {escape(path)}</code></a> {escape(operation["summary"])}</li>'
    yield "</ul>"


def _operations(document: Schema) -> Iterator[str]:
    for path, method, operation in _all_operations(document):
        yield f'<h2 id="{escape(operation["operationId"])}"><code>{method} {escape(path)}</code></h2>'
        yield f"<p>{escape(operation['summary'])}. {escape(operation.get('description', ''))}</p>"
        parameters = operation.get("parameters", ())
        if parameters:
            rows = [(each["name"], each["in"], type_text(each["schema"]), _described(each)) for each in parameters]
            yield from _table(("parameter", "in", "", ""), rows)
        if "requestBody" in operation:
            yield from _fields(_body_schema(operation["requestBody"]["content"]))
        yield from _table(("status", "", ""), [_answer(*each) for each in operation["responses"].items()])


def _body_schema(content: Mapping[str, Schema]) -> Schema:
    """As JSON where it may be, else as the form that it must be."""
    usual = content.get("application/json", next(iter(content.values())))
    schema: Schema = usual["schema"]
    return schema


def _all_operations(document: Schema) -> Iterator[tuple[str, str, Schema]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def _answer(status: str, response: Schema) -> tuple[str, str, str]:
    kinds = [f"{escape(kind)}: {type_text(content.get('schema', {}))}" for kind, content in _content_of(response)]
    return status, "<br>".join(kinds), escape(response["description"])


def _content_of(response: Schema) -> Iterator[tuple[str, Schema]]:
    yield from response.get("content", {}).items()


def _objects(schemas: Mapping[str, Schema]) -> Iterator[str]:
    for name, schema in schemas.items():
        yield f'<h3 id="{escape(name)}">{escape(name)}</h3><p>{escape(schema.get("description", ""))}</p>'
        yield from _fields(schema)


def _fields(schema: Schema) -> Iterator[str]:
    required = schema.get("required", ())
    rows = [
        (name, "needed" if name in required else "", type_text(member), _described(member))
        for name, member in schema.get("properties", {}).items()
    ]
    yield from _table(("field", "", "", ""), rows)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Cells but the first of each row are HTML already."""
    yield "<table><tr>" + "".join(f"<th>{heading}</th>" for heading in headings) + "</tr>"
    for first, *others in rows:
        cells = "".join(f"<td>{cell}</td>" for cell in others)
        yield f"<tr><td><code>{escape(first)}</code></td>{cells}</tr>"
    yield "</table>"


def _described(schema: Schema) -> str:
    return escape(schema.get("description", ""))


def _bounds(schema: Schema) -> Iterator[str]:
    for name, text in BOUNDS.items():
        if name in schema:
            yield text.format(schema[name])


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
