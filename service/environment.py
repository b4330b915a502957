"""Settings and the variables that set them: which, from files too, and what is said of wrong and unknown ones."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import AliasChoices, SecretStr, ValidationError
from pydantic_settings import BaseSettings

from service.errors import SettingsError

PREFIX = "WANSERVE_"
FILE = "_FILE"
ADDRESSES_WITH_PASSWORDS = ("redis_url", "s3_access_key")
"""Fields that are shown, but may come from a file as secrets do."""


def variable_of(settings: type[BaseSettings], field: str) -> str:
    """The environment variable that sets a field."""
    match settings.model_fields[field].validation_alias:
        case AliasChoices(choices=[str(variable), *_]):
            return variable
        case _:
            return PREFIX + field.upper()


def variables_by_file(settings: type[BaseSettings]) -> dict[str, str]:
    """By field: variables whose value a file may hold, named by the same variable with _FILE behind it."""
    secret = [name for name, field in settings.model_fields.items() if SecretStr in get_args(field.annotation)]
    return {field: variable_of(settings, field) for field in (*secret, *ADDRESSES_WITH_PASSWORDS)}


def read_files(settings: type[BaseSettings], environment: Mapping[str, str]) -> dict[str, Any]:
    """Values by field, of the files that variables name. Raises SettingsError."""
    values: dict[str, Any] = {}
    for field, variable in variables_by_file(settings).items():
        name = environment.get(variable + FILE)
        if not name:
            continue
        if environment.get(variable):
            raise SettingsError(f"Set {variable} or {variable}{FILE}, not both.")
        try:
            values[field] = Path(name).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as e:
            reason = e.strerror if isinstance(e, OSError) else "it is no text"
            raise SettingsError(f"{variable}{FILE}: {name} can't be read ({reason}).") from e
        if not values[field]:
            raise SettingsError(f"{variable}{FILE}: {name} is empty.")
    return values


def _is_injected(name: str, value: str) -> bool:
    """Whether Kubernetes or Docker tells of a service in it, beside ours: WANSERVE_GATEWAY_PORT_8000_TCP_ADDR, say."""
    if re.fullmatch(r".*_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)", name):
        return True
    return name.endswith("_PORT") and re.match(r"(tcp|udp|sctp)://", value) is not None


def refuse_unknown(settings: type[BaseSettings], environment: Mapping[str, str]) -> None:
    """Raises SettingsError for a variable with our prefix that sets nothing."""
    known = {variable_of(settings, field) for field in settings.model_fields}
    known |= {variable + FILE for variable in variables_by_file(settings).values()}
    unknown = sorted(
        name
        for name, value in environment.items()
        if name.startswith(PREFIX) and name not in known and not _is_injected(name, value)
    )
    if unknown:
        legal = ", ".join(sorted(name for name in known if name.startswith(PREFIX)))
        named = ", ".join(f"{name}{_nearest(name, known)}" for name in unknown)
        raise SettingsError(f"Unknown setting {named}. Known are: {legal}.")


def _nearest(name: str, known: set[str]) -> str:
    """Words that name the variable that was likeliest meant; empty when none is near."""
    # The prefix, which all share, would make everything look near.
    bare = {variable.removeprefix(PREFIX): variable for variable in known}
    near = get_close_matches(name.removeprefix(PREFIX), sorted(bare), n=1, cutoff=0.75)
    return f" (did you mean {bare[near[0]]}?)" if near else ""


def explained(settings: type[BaseSettings], error: ValidationError) -> str:
    """What is wrong and legal, by variable, without secrets."""
    lines = []
    for problem in error.errors(include_url=False):
        variable = _variable_at(settings, problem["loc"])
        # An address may hold a password.
        is_secret = "SECRET" in variable or "KEY" in variable or "@" in str(problem["input"])
        given = "" if is_secret else f" ({problem['input']!r} was given)"
        lines.append(f"{variable}: {problem['msg']}{given}")
    return "Wrong settings. " + "; ".join(lines) + "."


def _variable_at(settings: type[BaseSettings], location: tuple[int | str, ...]) -> str:
    """pydantic places an error at the field's name or at its alias, in either case."""
    name = str(location[0])
    is_field = name in settings.model_fields
    return variable_of(settings, name) if is_field else name.upper()


def text_of(value: object) -> str:
    """As a variable has it."""
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
