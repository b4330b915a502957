"""Records as they lie in Redis: each says by which schema it was written; a newer one is refused, not misread."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from service.errors import RecordTooNew, RecordUnreadable
from service.jobs.record import SCHEMA_VERSION
from service.logs import get_logger

VERSION = "schema_version"
"""The field's name; a record without it was written before there was one, and is of version 1."""

log = get_logger(__name__)
Record = TypeVar("Record", bound=BaseModel)


def text_of(record: BaseModel) -> str:
    """JSON, to be stored."""
    return json.dumps({VERSION: SCHEMA_VERSION, **record.model_dump(mode="json")}, ensure_ascii=False)


def record_from(kind: type[Record], stored: str | Mapping[str, Any], *, name: str) -> Record:
    """From text_of(), or from the fields of a hash. name: what a person calls it. Raises RecordUnreadable."""
    try:
        fields = json.loads(stored) if isinstance(stored, str) else stored
        if not isinstance(fields, Mapping):
            raise ValueError("it is no object")
        check_version(fields, name=name)
        return kind.model_validate(fields)
    except (ValidationError, ValueError) as e:
        raise RecordUnreadable(f"The record of {name} can't be read: it was damaged.") from e


def readable(kind: type[Record], rows: Iterable[Mapping[str, Any]]) -> Iterator[Record]:
    """Of hashes with an id; empty ones are gone. One that can't be read must not hide the others."""
    for fields in rows:
        if fields:
            try:
                yield record_from(kind, fields, name=fields["id"])
            except RecordUnreadable as e:
                log.warning("record_unreadable", reason=e.message)


def check_version(fields: Mapping[str, Any], *, name: str) -> None:
    """Raises RecordTooNew for a schema that this program does not know."""
    version = fields.get(VERSION, 1)
    if str(version) != str(SCHEMA_VERSION):
        raise RecordTooNew(
            f"The record of {name} was written by another version of wanserve (schema {version}, this one reads "
            f"{SCHEMA_VERSION}): upgrade this process, or go back with what wrote it."
        )
