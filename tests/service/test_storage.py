"""Both stores behave alike: the same tests run on a real SeaweedFS and on a folder."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.errors import ObjectNotFound, StorageUnavailable
from service.settings import Settings
from service.storage import FolderStorage, Storage, open_storage

CONTENT = bytes(range(256)) * 4096
KEY = "assets/asset_1/exec_1/video.mp4"


@pytest.fixture(params=["s3", "folder"])
def store(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Iterator[Storage]:
    opened = open_storage(settings) if request.param == "s3" else FolderStorage(tmp_path / "objects")
    opened.ensure_bucket()
    yield opened
    opened.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "source.mp4"
    path.write_bytes(CONTENT)
    return path


def test_a_file_comes_back_whole_with_its_type(store: Storage, file: Path) -> None:
    stored = store.put_file(KEY, file, content_type="video/mp4", metadata={"seed": "3"})

    assert (stored.size_bytes, stored.content_type) == (len(CONTENT), "video/mp4")
    assert stored.etag.startswith('"')
    assert store.stat(KEY) == stored
    assert b"".join(store.read(KEY)) == CONTENT


def test_a_stream_is_stored_from_its_place_on(store: Storage, file: Path) -> None:
    with file.open("rb") as content:
        content.seek(10)
        stored = store.put_stream(KEY, content, content_type="application/jsonl")

    assert (stored.size_bytes, stored.content_type) == (len(CONTENT) - 10, "application/jsonl")
    assert b"".join(store.read(KEY)) == CONTENT[10:]


@pytest.mark.parametrize(("start", "end"), [(0, 1), (5, 10), (0, None), (300_000, None), (100, 600_000)])
def test_a_range_is_streamed(store: Storage, file: Path, start: int, end: int | None) -> None:
    store.put_file(KEY, file, content_type="video/mp4")

    assert b"".join(store.read(KEY, start=start, end=end)) == CONTENT[start:end]


def test_a_stream_can_be_dropped_midway(store: Storage, file: Path) -> None:
    store.put_file(KEY, file, content_type="video/mp4")
    stream = store.read(KEY)

    assert next(iter(stream))
    stream.close()  # type: ignore[attr-defined]


def test_a_missing_key_is_not_found(store: Storage) -> None:
    for call in (store.stat, store.read):
        with pytest.raises(ObjectNotFound):
            call("assets/none/video.mp4")


def test_delete_removes_and_may_be_repeated(store: Storage, file: Path) -> None:
    store.put_file(KEY, file, content_type="video/mp4")

    store.delete([KEY, "assets/none/video.mp4"])
    store.delete([KEY])

    with pytest.raises(ObjectNotFound):
        store.stat(KEY)


def test_ensure_bucket_may_be_repeated(store: Storage) -> None:
    store.ensure_bucket()
    store.check()


def test_no_link_without_a_public_address(store: Storage) -> None:
    assert store.presigned_url(KEY, seconds=60) is None


def test_a_presigned_link_serves_ranges_under_the_given_name(settings: Settings, file: Path) -> None:
    public = open_storage(settings.with_changes(s3_public_endpoint=settings.s3_endpoint))
    public.ensure_bucket()
    public.put_file(KEY, file, content_type="video/mp4")

    url = public.presigned_url(KEY, seconds=60, content_disposition='inline; filename="ball.mp4"')
    public.close()

    assert url is not None
    reply = httpx.get(url, headers={"Range": "bytes=10-19"})
    assert (reply.status_code, reply.content) == (206, CONTENT[10:20])
    assert reply.headers["content-type"] == "video/mp4"
    assert reply.headers["content-disposition"] == 'inline; filename="ball.mp4"'
    assert httpx.get(url.replace("X-Amz-Signature=", "X-Amz-Signature=0")).status_code == 403


def test_an_unreachable_store_is_a_clear_retryable_error(settings: Settings, file: Path) -> None:
    gone = open_storage(settings.with_changes(s3_endpoint="http://127.0.0.1:1"))

    for call in (gone.check, gone.ensure_bucket, lambda: gone.put_file(KEY, file, content_type="video/mp4")):
        with pytest.raises(StorageUnavailable, match="does not answer") as error:
            call()
        assert error.value.retryable
    gone.close()


def test_wrong_credentials_say_which_settings_to_check(settings: Settings) -> None:
    stranger = open_storage(settings.with_changes(s3_access_key="x", s3_secret_key="y"))

    with pytest.raises(StorageUnavailable, match="check S3_ACCESS_KEY"):
        stranger.check()
    stranger.close()


def test_a_folder_store_keeps_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")

    with pytest.raises(ObjectNotFound):
        FolderStorage(tmp_path / "objects").stat("../secret")


def test_an_unwritable_folder_is_a_clear_error(tmp_path: Path, file: Path) -> None:
    (tmp_path / "blocked").write_text("")

    with pytest.raises(StorageUnavailable, match="can't be used"):
        FolderStorage(tmp_path / "blocked" / "objects").put_file(KEY, file, content_type="video/mp4")
