"""Writes docs/settings.md: every setting, from service/settings.py itself: `python -m deploy.settings_page`."""

import ast
import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from unittest.mock import patch

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from service.environment import variable_of
from service.errors import SettingsError
from service.settings import Settings

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
WRONG = "?"
HEAD = """# Settings

Every setting is an environment variable. A wrong one stops the start with the words in the last column; an unknown
`WANSERVE_` variable stops it with the nearest name. Secrets, `REDIS_URL` and `S3_ACCESS_KEY` may come from a file
instead: `…_FILE` names it. `python -m deploy.settings_page` writes this page.

| variable | what it is | type, default | legal | printed for a wrong one |
|---|---|---|---|---|
"""


def page() -> str:
    return HEAD + "".join(f"{row}\n" for row in rows())


def rows() -> Iterator[str]:
    explained = explanations()
    for name, field in Settings.model_fields.items():
        variable = variable_of(Settings, name)
        kind, legal = type_of(field), legal_of(field)
        default = "none" if field.default is None else f"`{field.default}`" if str(field.default) else "empty"
        cells = [f"`{variable}`", explained.get(name, ""), f"{kind}, {default}", legal, complaint(variable)]
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def explanations() -> dict[str, str]:
    """The string under each field."""
    [body] = [node for node in ast.parse(inspect.getsource(Settings)).body if isinstance(node, ast.ClassDef)]
    found: dict[str, str] = {}
    for node, after in zip(body.body, body.body[1:], strict=False):
        match node, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found


def type_of(field: FieldInfo) -> str:
    kinds = [kind for kind in get_args(field.annotation) or (field.annotation,) if kind is not type(None)]
    if SecretStr in kinds:
        return "secret"
    for kind, name in ((bool, "true or false"), (int, "whole number"), (float, "number"), (Path, "path")):
        if kind in kinds or any(get_args(each)[:1] == (kind,) for each in kinds):
            return name
    return "text"


def legal_of(field: FieldInfo) -> str:
    """Words and bounds."""
    words = [word for kind in _kinds(field.annotation) if get_origin(kind) is Literal for word in get_args(kind)]
    bounds = []
    for rule in [*field.metadata, *(rule for kind in _kinds(field.annotation) for rule in _rules(kind))]:
        match rule:
            case Ge(ge=low) | Gt(gt=low):
                bounds.append(f"{'from' if isinstance(rule, Ge) else 'over'} {low:g}")
            case Le(le=high) | Lt(lt=high):
                bounds.append(f"to {high:g}")
            case MinLen(min_length=least):
                bounds.append(f"at least {least} characters")
            case MaxLen(max_length=most):
                bounds.append(f"at most {most} characters")
    return ", ".join([*(f"`{word}`" for word in words), *bounds])


def _kinds(annotation: Any) -> tuple[Any, ...]:
    inner = get_args(annotation)
    return inner if inner and get_origin(annotation) is not Literal else (annotation,)


def _rules(kind: Any) -> Iterator[Any]:
    for rule in get_args(kind)[1:] if hasattr(kind, "__metadata__") else ():
        yield from getattr(rule, "metadata", [rule])


def complaint(variable: str) -> str:
    """What a start with it says."""
    with only(variable, WRONG):
        try:
            Settings.load()
        except SettingsError as e:
            return e.message
    return ""


@contextmanager
def only(variable: str, value: str) -> Iterator[None]:
    with patch.dict(os.environ, {variable: value}, clear=True):
        yield


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
