"""Where the bytes lie: an S3 bucket, or a folder where no S3 server can run. Knows no video and no HTTP."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from service.settings import Settings


@dataclass(frozen=True, slots=True)
class StoredObject:
    key: str
    size_bytes: int
    content_type: str
    etag: str
    """With its quotes, as an HTTP header has it."""


class Storage(Protocol):
    """Every method raises StorageUnavailable without the store, ObjectNotFound for a missing key."""

    def ensure_bucket(self) -> None:
        """Create the bucket or folder when it is absent."""

    def check(self) -> None:
        """Raises StorageUnavailable unless the bucket answers."""

    def put_file(
        self, key: str, file: Path, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> StoredObject:
        """Upload a file; it appears under its key only when it is whole."""

    def stat(self, key: str) -> StoredObject:
        """Size and type without the bytes."""

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Stream bytes start..end, end not included; the caller checks the range against stat()."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; missing ones are fine."""

    def presigned_url(self, key: str, *, seconds: int, content_disposition: str | None = None) -> str | None:
        """A link that works without credentials, or None where the store can't be reached by clients."""

    def close(self) -> None:
        """Give back connections."""


def open_storage(settings: Settings) -> Storage:
    """The store that the settings name. Opens no connection yet; call ensure_bucket() once at start."""
    raise NotImplementedError
