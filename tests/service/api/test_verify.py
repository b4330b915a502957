"""POST /v1/verify: what a file proves, and to its owner alone which videos it belongs to."""

import http.client
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import ANY

import httpx
import numpy as np
import pytest
from redis import Redis

from service.api.uploads import MAX_FILE_BYTES
from service.cli import main
from service.jobs.watermark_ids import WatermarkIds
from service.provenance.evidence import packets_sha256_of
from service.provenance.notary import Notary
from service.provenance.watermark import Marker
from service.settings import Settings
from tests.service.api.conftest import FakeWorker
from tests.service.provenance.test_watermark import drifting_clouds
from worker.media.encode import save_mp4


@pytest.fixture
def bare_file(tmp_path: Path) -> Path:
    path = tmp_path / "bare.mp4"
    save_mp4(np.zeros((5, 64, 96, 3), np.uint8), 8, path)
    return path


def signed(path: Path, settings: Settings, *, asset_id: str) -> Path:
    notary = Notary(settings)
    save_mp4(np.zeros((5, 64, 96, 3), np.uint8), 8, path, tags=notary.tags(asset_id))
    generation = notary.generation(
        asset_id=asset_id, model="wan", fingerprint="f" * 64, parameters={"seed": 1}, prompts=("a", "")
    )
    assert notary.seal(path, generation)
    return path


def verify(client: httpx.Client, content: bytes) -> httpx.Response:
    return client.post("/v1/verify", files={"file": ("video.mp4", content)})


def test_a_delivered_file_is_known_with_its_videos(
    client: httpx.Client, worker: FakeWorker, gateway_settings: Settings, tmp_path: Path
) -> None:
    body = {"prompt": "a red ball", "seed": 1}
    video_ids = [client.post("/v1/videos", json=body).json()["id"] for _ in range(2)]
    claim = worker.claim()
    content = signed(tmp_path / "a.mp4", gateway_settings, asset_id=claim.payload.asset_id).read_bytes()
    worker.complete(claim, content)

    told = verify(client, content).json()

    assert told["has_evidence"]
    assert told["signature"]["seal"] == "trusted"
    assert told["signature"]["generation"]["asset_id"] == claim.payload.asset_id
    assert told["label"]["ProduceID"] == claim.payload.asset_id
    assert (told["width"], told["height"]) == (96, 64)
    assert sorted(told["video_ids"]) == sorted(video_ids)
    assert told["is_delivered_file"] is True


def test_a_changed_file_is_told_and_belongs_to_nobody(
    client: httpx.Client, worker: FakeWorker, gateway_settings: Settings, tmp_path: Path
) -> None:
    client.post("/v1/videos", json={"prompt": "a red ball", "seed": 1})
    claim = worker.claim()
    content = signed(tmp_path / "a.mp4", gateway_settings, asset_id=claim.payload.asset_id).read_bytes()
    worker.complete(claim, content)
    changed = bytearray(content)
    changed[content.index(b"mdat") + 100] ^= 1

    told = verify(client, bytes(changed)).json()

    assert told["signature"]["seal"] == "invalid"
    assert told["message"] == "The file was changed after it was signed."
    assert (told["video_ids"], told["is_delivered_file"]) == ([], None)


def test_a_strangers_signature_opens_no_records(
    client: httpx.Client, worker: FakeWorker, settings: Settings, tmp_path: Path
) -> None:
    client.post("/v1/videos", json={"prompt": "a red ball", "seed": 1})
    claim = worker.claim()
    stranger = settings.with_changes(data_dir=tmp_path / "stranger")
    content = signed(tmp_path / "a.mp4", stranger, asset_id=claim.payload.asset_id).read_bytes()
    worker.complete(claim, content)

    told = verify(client, content).json()

    assert told["signature"]["seal"] == "valid"
    assert told["video_ids"] == []


def test_a_file_without_marks_proves_nothing_and_that_is_all(client: httpx.Client, bare_file: Path) -> None:
    told = verify(client, bare_file.read_bytes()).json()

    assert not told["has_evidence"]
    assert told["signature"] == {"seal": "none", "signer": None, "faults": [], "generation": None}
    assert told["label"] is None
    assert "does not say how it was made" in told["message"]
    assert told["message"].startswith("No evidence: ")


@pytest.mark.parametrize("content", [b"no video", b"#EXTM3U\n", b"\x00\x00\x00\x18ftypisom" + b"\xff" * 99])
def test_what_is_no_mp4_is_refused(client: httpx.Client, content: bytes) -> None:
    refused = verify(client, content)

    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "file"
    assert "Send an MP4 file" in refused.json()["error"]["message"]


def test_an_upload_without_end_is_answered_at_the_bound(client: httpx.Client) -> None:
    """Sent without a length, so that only what has come can tell."""
    block = bytes(1 << 20)
    connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port or 80, timeout=30)
    with closing(connection):
        connection.putrequest("POST", "/v1/verify")
        connection.putheader("Content-Type", "multipart/form-data; boundary=x")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
        for part in (head, *[block] * ((MAX_FILE_BYTES >> 20) + 1)):
            connection.send(b"%x\r\n%b\r\n" % (len(part), part))
        answer = connection.getresponse()
        error = json.loads(answer.read())["error"]

    assert (answer.status, error["code"]) == (413, "body_too_large")


@pytest.fixture
def marked(
    client: httpx.Client, worker: FakeWorker, redis: Redis, gateway_settings: Settings, tmp_path: Path
) -> tuple[Path, str]:
    """A file with every mark, as a worker leaves it, and its video's id."""
    video_id = client.post("/v1/videos", json={"prompt": "a red ball", "seed": 1}).json()["id"]
    claim, notary, path = worker.claim(), Notary(gateway_settings), tmp_path / "marked.mp4"
    asset_id, key = claim.payload.asset_id, gateway_settings.watermark_keys()[0]
    number = WatermarkIds(redis).take(asset_id, key=key)
    save_mp4(drifting_clouds(), 8, path, tags=notary.tags(asset_id), mark=Marker(key, number, num_frames=9).mark)
    generation = notary.generation(
        asset_id=asset_id, model="wan", fingerprint="f" * 64, parameters={}, prompts=("a", ""), is_watermarked=True
    )
    assert notary.seal(path, generation)
    worker.complete(claim, path.read_bytes(), packets_sha256=packets_sha256_of(path), watermark_id=number)
    return path, video_id


def ffmpeg(source: Path, *options: str) -> bytes:
    target = source.with_name("anew.mp4")
    command = ["ffmpeg", "-v", "error", "-y", "-i", str(source), *options, str(target)]
    subprocess.run(command, check=True, timeout=60)
    return target.read_bytes()


def one_byte_changed(source: Path, box: bytes) -> bytes:
    content = bytearray(source.read_bytes())
    content[content.index(box) + 100] ^= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("doing", "verdict"),
    [
        (lambda path: path.read_bytes(), "untouched"),
        (lambda path: one_byte_changed(path, b"moov"), "changed"),
        (lambda path: one_byte_changed(path, b"mdat"), "changed"),
        (lambda path: ffmpeg(path, "-c", "copy", "-map_metadata", "-1"), "remuxed"),
        (lambda path: ffmpeg(path, "-crf", "28", "-map_metadata", "-1"), "reencoded"),
    ],
    ids=["untouched", "index changed", "pictures changed", "remuxed", "reencoded"],
)
def test_what_became_of_a_file_is_told_and_its_owner_sees_who_asked_for_it(
    client: httpx.Client,
    marked: tuple[Path, str],
    wait_until: Callable[..., None],
    doing: Callable[[Path], bytes],
    verdict: str,
) -> None:
    path, video_id = marked

    # The record follows the video within seconds.
    wait_until(lambda: verify(client, path.read_bytes()).json()["records"], seconds=20)
    told = verify(client, doing(path)).json()

    assert told["verdict"] == verdict
    assert told["watermark"]["score"] >= 3.8
    assert told["video_ids"] == [video_id]
    [record] = told["records"]
    assert (record["video_id"], record["tenant"], record["kind"]) == (video_id, "default", "queued")
    assert record["request"]["prompt"] == "a red ball"
    assert record["filter"]["action"] == "allow"
    assert 0 < max(record["filter"]["scores"].values()) < 0.5
    assert record["asset"]["watermark_id"] == told["watermark"]["id"]
    assert "stored" not in record


@pytest.fixture
def run(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, list[str], str]]:
    """run(file) gives exit code, lines and standard error of `wanserve verify`."""
    monkeypatch.setenv("WANSERVE_SERVER", address)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, list[str], str]:
        code = main(["verify", *arguments])
        said = capsys.readouterr()
        # Logs of the gateway in this process go where print() goes.
        return code, [line for line in said.out.splitlines() if not re.match(r"\d{4}-\d\d-\d\d ", line)], said.err

    return run


@pytest.mark.parametrize(
    ("doing", "verdict", "code"),
    [
        (lambda path: path.read_bytes(), "untouched", 0),
        (lambda path: ffmpeg(path, "-c", "copy"), "remuxed", 1),
        (lambda path: ffmpeg(path, "-crf", "28"), "reencoded", 1),
    ],
)
def test_the_command_asks_the_service_and_shows_its_owner_the_record(
    client: httpx.Client,
    marked: tuple[Path, str],
    run: Callable[..., tuple[int, list[str], str]],
    wait_until: Callable[..., None],
    doing: Callable[[Path], bytes],
    verdict: str,
    code: int,
) -> None:
    path, video_id = marked
    wait_until(lambda: verify(client, path.read_bytes()).json()["records"], seconds=20)
    path.write_bytes(doing(path))

    ended, lines, _ = run(str(path))

    assert ended == code
    assert lines[0].startswith(f"verdict    {verdict}: ")
    assert f"video      {video_id}" in lines
    assert "prompt     a red ball" in lines
    assert "filter     allow" in lines
    [record] = [line for line in lines if line.startswith("record")]
    assert video_id in record
    assert "by default (queued)" in record


def test_the_command_says_why_it_could_not_ask_a_service_that_was_named(
    run: Callable[..., tuple[int, list[str], str]], bare_file: Path, free_port: Callable[[], int]
) -> None:
    assert run("--server", f"http://127.0.0.1:{free_port()}", str(bare_file))[::2] == (2, ANY)
    code, _, error = run(str(bare_file.with_name("missing.mp4")))
    assert (code, "missing.mp4 can't be read (No such file or directory)" in error) == (2, True)


def test_without_a_service_the_command_looks_at_the_file_alone_and_says_what_that_leaves_open(
    run: Callable[..., tuple[int, list[str], str]],
    marked: tuple[Path, str],
    gateway_settings: Settings,
    free_port: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WANSERVE_SERVER")
    monkeypatch.setenv("WANSERVE_PORT", str(free_port()))
    monkeypatch.setenv("WANSERVE_DATA_DIR", str(gateway_settings.data_dir))
    path, _ = marked

    assert run(str(path))[0] == 0
    path.write_bytes(ffmpeg(path, "-c", "copy"))
    code, lines, error = run(str(path))

    assert code == 1
    assert lines[0].startswith("verdict    marked: ")
    assert "does not answer" in error
    assert "looked at alone" in error


def test_record_stays_when_its_video_is_deleted_and_opens_to_nobody_else(
    client: httpx.Client, marked: tuple[Path, str], wait_until: Callable[..., None], redis: Redis
) -> None:
    path, video_id = marked
    client.delete(f"/v1/videos/{video_id}")

    def told() -> dict[str, Any]:
        answer: dict[str, Any] = verify(client, path.read_bytes()).json()
        return answer

    wait_until(lambda: [record["video_id"] for record in told()["records"]] == [video_id], seconds=20)
    assert told()["video_ids"] == []


@contextmanager
def file_server(content: bytes, status: int = 200) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/video.mp4"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_file_elsewhere_is_fetched_and_judged(client: httpx.Client, bare_file: Path) -> None:
    with file_server(bare_file.read_bytes()) as url:
        told = client.post("/v1/verify", json={"url": url})
    assert (told.status_code, told.json()["verdict"]) == (200, "unknown")


@pytest.mark.parametrize(
    ("url", "status", "says"),
    [
        ("http://169.254.169.254/latest/meta-data", 400, "url"),
        ("file:///etc/passwd", 400, "url"),
        ("http://127.0.0.1:9999/video.mp4", 502, "whole"),
        ("", 400, "url"),
    ],
)
def test_an_address_that_must_not_or_cant_be_asked_is_refused(
    client: httpx.Client, url: str, status: int, says: str
) -> None:
    refused = client.post("/v1/verify", json={"url": url})
    assert refused.status_code == status
    assert says in refused.json()["error"]["message"]


def test_an_answer_that_is_no_file_is_refused(client: httpx.Client) -> None:
    with file_server(b"", status=302) as url:
        refused = client.post("/v1/verify", json={"url": url})
    assert refused.status_code == 400
    assert "no redirect is followed" in refused.json()["error"]["message"]
