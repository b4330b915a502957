"""The types of what callers send, from JSON or from a form, and how a wrong field is told. Pure."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ValidationError, WithJsonSchema

from service.errors import InvalidRequest

FLAGS = {"true": True, "1": True, "false": False, "0": False}


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        # JSON can spell half of a surrogate pair; nothing after us can store it.
        raise ValueError("holds half of a character: send valid Unicode") from None
    return text


def _true_or_false(value: object) -> object:
    """A form has it as text."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in FLAGS:
        raise ValueError("must be true or false")
    return FLAGS[value.lower()]


Text = Annotated[str, AfterValidator(_encodable)]
Whole = Annotated[int, BeforeValidator(_no_bool)]
Number = Annotated[float, BeforeValidator(_no_bool)]
Flag = Annotated[
    bool,
    BeforeValidator(_true_or_false),
    WithJsonSchema({"enum": [True, False, "true", "false", "True", "False", "1", "0"]}),
]


def listed(value: object) -> object:
    """For fields with several values: a form that has one sends it alone."""
    return [value] if isinstance(value, str) else value


Fields = TypeVar("Fields", bound=BaseModel)


def validated(kind: type[Fields], fields: Mapping[str, Any]) -> Fields:
    """A model of what a caller sent. Raises InvalidRequest with the first wrong field as param."""
    try:
        return kind.model_validate(dict(fields))
    except ValidationError as e:
        problem = e.errors(include_url=False)[0]
        param = _param_at(problem["loc"])
        if problem["type"] == "missing":
            raise InvalidRequest(f"{param} is missing.", param=param) from e
        message = problem["msg"].removeprefix("Value error, ")
        raise InvalidRequest(f"{param}: {message[0].lower()}{message[1:]}.", param=param) from e


def _param_at(location: tuple[int | str, ...]) -> str:
    """webhook.url, say; of other objects the members' names are the caller's own."""
    match location:
        case ("webhook" | "label", str(member), *_) | ("visible_label", "label", str(member), *_):
            return f"{location[0]}.{member}"
        case _:
            return str(location[0])
