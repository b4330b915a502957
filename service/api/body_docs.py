"""OpenAPI text for bodies that read_fields reads, which FastAPI can't see."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

BOUNDS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
"""pydantic leaves its own words where a validator stands before the bound."""

FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


def body_docs(
    kind: type[BaseModel], *, example: Mapping[str, Any] | None = None, is_required: bool = True
) -> dict[str, Any]:
    """The `openapi_extra` of a route whose body holds these fields, in any of the encodings."""
    schema = inlined(kind.model_json_schema())
    examples = {} if example is None else {"examples": {"usual": {"value": example}}}
    in_forms = {"schema": form_schema(schema), **examples}
    if objects := [name for name, member in schema["properties"].items() if _is_object(member)]:
        # As JSON text: there is no other way that says how deep a member lies.
        in_forms["encoding"] = {name: {"contentType": "application/json"} for name in objects}
    content = dict.fromkeys(FORMS, in_forms)
    content["application/json"] = {"schema": schema, **examples}
    return {"requestBody": {"required": is_required, "content": content}}


def _is_object(schema: Mapping[str, Any]) -> bool:
    return any(part.get("type") == "object" for part in (schema, *schema.get("anyOf", ())))


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema in OpenAPI's words, without $defs: those of a body do not lie where it looks for them."""
    definitions = schema.get("$defs", {})

    def resolved(part: Any) -> Any:
        match part:
            case {"$ref": str(reference), **beside}:
                return resolved({**definitions[reference.rpartition("/")[2]], **beside})
            case dict():
                names = BOUNDS if isinstance(part.get("type"), str) else {}
                return {names.get(name, name): resolved(member) for name, member in part.items() if name != "$defs"}
            case list():
                return [resolved(member) for member in part]
            case _:
                return part

    found = resolved(schema)
    assert isinstance(found, dict)
    return found


def form_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The same fields in a form, where an empty one counts as not given."""
    required = schema.get("required", ())
    properties = {
        name: without_null(member) if name in required else {"anyOf": [without_null(member), {"const": ""}]}
        for name, member in schema["properties"].items()
    }
    return {**schema, "properties": properties}


def without_null(schema: Any) -> Any:
    """A form has no null: what is not given is left out."""
    match schema:
        case {"anyOf": [only, {"type": "null"}], **beside}:
            return {**without_null(only), **{name: value for name, value in beside.items() if name != "default"}}
        case dict():
            return {name: without_null(member) for name, member in schema.items()}
        case list():
            return [without_null(member) for member in schema]
        case _:
            return schema
