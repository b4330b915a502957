"""Where the bytes lie: an S3 bucket, or a folder where no S3 server can run. Knows no video and no HTTP."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import boto3
from boto3.exceptions import S3UploadFailedError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from service.errors import ObjectNotFound, ServiceError, StorageUnavailable
from service.settings import Settings

CHUNK_BYTES = 256 * 1024


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

    def put_stream(self, key: str, content: IO[bytes], *, content_type: str) -> StoredObject:
        """As put_file(), of the bytes from the stream's place on; the stream may be closed then."""

    def stat(self, key: str) -> StoredObject:
        """Size and type without the bytes."""

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Stream bytes start..end, end not included; the caller checks the range against stat()."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; missing ones are fine."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Of the objects that begin so, in no order that counts. Raises StorageUnavailable, at any of them."""

    def presigned_url(self, key: str, *, seconds: int, content_disposition: str | None = None) -> str | None:
        """A link that works without credentials, or None where the store can't be reached by clients."""

    def close(self) -> None:
        """Give back connections."""


def open_storage(settings: Settings, *, is_patient: bool = True) -> Storage:
    """The store that the settings name. Opens no connection yet; call ensure_bucket() once at start.

    is_patient: retry for some seconds before giving up; otherwise one quick try.
    """
    if settings.uses_s3:
        return S3Storage(settings, is_patient=is_patient)
    return FolderStorage(settings.data_dir / "objects")


class S3Storage:
    """A bucket of any S3-compatible server."""

    def __init__(self, settings: Settings, *, is_patient: bool = True) -> None:
        """is_patient: retry for some seconds before giving up; otherwise one quick try."""
        self._bucket = settings.bucket
        self._client = _s3_client(settings, settings.s3_endpoint, is_patient=is_patient)
        # A signature covers the host, so that links need a client of the public address.
        public = settings.s3_public_endpoint
        self._public_client = None if public is None else _s3_client(settings, public, is_patient=is_patient)

    def ensure_bucket(self) -> None:
        with _s3_errors():
            try:
                self._client.head_bucket(Bucket=self._bucket)
            except ClientError as e:
                if _status(e) != 404:
                    raise
                self._create_bucket()

    def check(self) -> None:
        with _s3_errors():
            self._client.head_bucket(Bucket=self._bucket)

    def probe(self) -> None:
        """Raises StorageUnavailable unless an object can be written and read now; leaves it behind."""
        self.ensure_bucket()
        with _s3_errors():
            self._client.put_object(Bucket=self._bucket, Key=".probe", Body=b"ok")
            self._client.get_object(Bucket=self._bucket, Key=".probe")["Body"].read()

    def put_file(
        self, key: str, file: Path, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> StoredObject:
        headers: dict[str, Any] = {"ContentType": content_type, "Metadata": dict(metadata or {})}
        with _s3_errors(), _upload_errors():
            self._client.upload_file(str(file), self._bucket, key, ExtraArgs=headers)
        return self.stat(key)

    def put_stream(self, key: str, content: IO[bytes], *, content_type: str) -> StoredObject:
        with _s3_errors(), _upload_errors():
            self._client.upload_fileobj(content, self._bucket, key, ExtraArgs={"ContentType": content_type})
        return self.stat(key)

    def stat(self, key: str) -> StoredObject:
        with _s3_errors():
            head = self._client.head_object(Bucket=self._bucket, Key=key)
        return StoredObject(key, head["ContentLength"], head["ContentType"], head["ETag"])

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        byte_range = f"bytes={start}-{'' if end is None else end - 1}"
        with _s3_errors():
            body = self._client.get_object(Bucket=self._bucket, Key=key, Range=byte_range)["Body"]
        return _chunks(body)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with _s3_errors():
                self._client.delete_object(Bucket=self._bucket, Key=key)

    def keys(self, prefix: str) -> Iterator[str]:
        with _s3_errors():
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                yield from (found["Key"] for found in page.get("Contents", ()))

    def presigned_url(self, key: str, *, seconds: int, content_disposition: str | None = None) -> str | None:
        if self._public_client is None:
            return None
        params = {"Bucket": self._bucket, "Key": key}
        if content_disposition is not None:
            params["ResponseContentDisposition"] = content_disposition
        url: str = self._public_client.generate_presigned_url("get_object", Params=params, ExpiresIn=seconds)
        return url

    def close(self) -> None:
        self._client.close()
        if self._public_client is not None:
            self._public_client.close()

    def _create_bucket(self) -> None:
        region = self._client.meta.region_name
        # us-east-1 is the one region that S3 refuses to hear named.
        place = {} if region == "us-east-1" else {"LocationConstraint": region}
        extra = {"CreateBucketConfiguration": place} if place else {}
        try:
            self._client.create_bucket(Bucket=self._bucket, **extra)
        except ClientError as e:
            # Another process was first.
            if e.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise


class FolderStorage:
    """Objects as files, for platforms without an S3 server. Type and digest lie in a file beside each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def ensure_bucket(self) -> None:
        with self._folder_errors():
            self._folder.mkdir(parents=True, exist_ok=True)

    def check(self) -> None:
        if not os.access(self._folder, os.W_OK):
            raise StorageUnavailable("The object folder can't be written.")

    def put_file(
        self, key: str, file: Path, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> StoredObject:
        with self._folder_errors(), file.open("rb") as content:
            return self._put(key, content, content_type=content_type, metadata=dict(metadata or {}))

    def put_stream(self, key: str, content: IO[bytes], *, content_type: str) -> StoredObject:
        return self._put(key, content, content_type=content_type, metadata={})

    def stat(self, key: str) -> StoredObject:
        path = self._path(key)
        with self._folder_errors(key):
            about = json.loads(self._about(path).read_text())
            return StoredObject(key, path.stat().st_size, about["content_type"], about["etag"])

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        with self._folder_errors(key):
            file = self._path(key).open("rb")
        return _file_chunks(file, start, end)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            path = self._path(key)
            with self._folder_errors():
                path.unlink(missing_ok=True)
                self._about(path).unlink(missing_ok=True)
            # The empty folder of an execution; one that still holds files stays.
            with suppress(OSError):
                path.parent.rmdir()

    def keys(self, prefix: str) -> Iterator[str]:
        with self._folder_errors():
            for path in sorted(self._folder.rglob("*")):
                key = path.relative_to(self._folder).as_posix()
                if key.startswith(prefix) and path.is_file() and not path.name.startswith("."):
                    yield key

    def presigned_url(self, key: str, *, seconds: int, content_disposition: str | None = None) -> str | None:
        return None

    def close(self) -> None:
        return None

    def _put(self, key: str, content: IO[bytes], *, content_type: str, metadata: dict[str, str]) -> StoredObject:
        target = self._path(key)
        draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        with self._folder_errors():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with draft.open("wb") as copy:
                    shutil.copyfileobj(content, copy)
                stored = StoredObject(key, draft.stat().st_size, content_type, f'"{_md5(draft)}"')
                self._about(target).write_text(
                    json.dumps({"content_type": content_type, "etag": stored.etag, "metadata": metadata})
                )
                draft.replace(target)
            finally:
                draft.unlink(missing_ok=True)
        return stored

    def _path(self, key: str) -> Path:
        path = (self._folder / key).resolve()
        if not path.is_relative_to(self._folder.resolve()) or path.name.startswith("."):
            raise ObjectNotFound("There is no such file.")
        return path

    @staticmethod
    def _about(path: Path) -> Path:
        return path.with_name(f".{path.name}.json")

    @contextmanager
    def _folder_errors(self, key: str = "") -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError) as e:
            if not key:
                raise StorageUnavailable("The object folder is gone.") from e
            raise ObjectNotFound("The file is not there any more.") from e
        except OSError as e:
            raise StorageUnavailable(f"The object folder can't be used ({e.strerror}).") from e


def _s3_client(settings: Settings, endpoint: str | None, *, is_patient: bool) -> Any:
    secret = settings.s3_secret_key
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key,
        aws_secret_access_key=None if secret is None else secret.get_secret_value(),
        config=Config(
            signature_version="s3v4",
            connect_timeout=3,
            read_timeout=30 if is_patient else 3,
            retries={"mode": "standard", "total_max_attempts": 3 if is_patient else 1},
            max_pool_connections=32,
            # A server of our own has no name for each bucket; only AWS does.
            s3={"addressing_style": "auto" if endpoint is None else "path"},
        ),
    )


@contextmanager
def _s3_errors() -> Iterator[None]:
    """Translate what boto3 raises."""
    try:
        yield
    except ClientError as e:
        raise _translated(e) from e
    except BotoCoreError as e:
        raise StorageUnavailable("The object store does not answer. Try again shortly.") from e


@contextmanager
def _upload_errors() -> Iterator[None]:
    """upload_file wraps a ClientError into its own kind; take it out again."""
    try:
        yield
    except S3UploadFailedError as e:
        if isinstance(e.__context__, ClientError):
            raise e.__context__ from e
        raise StorageUnavailable("The object store refused an upload. Try again shortly.") from e


def _translated(error: ClientError) -> ServiceError:
    code = error.response["Error"]["Code"]
    match _status(error):
        case 404 if code == "NoSuchBucket":
            return StorageUnavailable("The object store's bucket is gone.")
        case 404:
            return ObjectNotFound("The file is not there any more.")
        case 401 | 403:
            return StorageUnavailable(
                f"The object store refuses access ({code}): check S3_ACCESS_KEY, S3_SECRET_KEY and S3_BUCKET."
            )
        case _:
            return StorageUnavailable(f"The object store failed ({code}). Try again shortly.")


def _status(error: ClientError) -> int:
    status: int = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return status


def _chunks(body: Any) -> Iterator[bytes]:
    try:
        with _s3_errors():
            yield from body.iter_chunks(CHUNK_BYTES)
    finally:
        body.close()


def _file_chunks(file: Any, start: int, end: int | None) -> Iterator[bytes]:
    with file:
        file.seek(start)
        left = None if end is None else end - start
        while left is None or left > 0:
            chunk = file.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left))
            if not chunk:
                return
            left = None if left is None else left - len(chunk)
            yield chunk


def _md5(file: Path) -> str:
    """S3's own choice for small objects; it tells versions apart, it protects nothing."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
