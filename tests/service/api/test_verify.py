"""POST /v1/verify: what a file proves, and to its owner alone which videos it belongs to."""

from pathlib import Path

import httpx
import numpy as np
import pytest

from service.provenance.notary import Notary
from service.settings import Settings
from tests.service.api.conftest import FakeWorker
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


@pytest.mark.parametrize("content", [b"no video", b"#EXTM3U\n", b"\x00\x00\x00\x18ftypisom" + b"\xff" * 99])
def test_what_is_no_mp4_is_refused(client: httpx.Client, content: bytes) -> None:
    refused = verify(client, content)

    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "file"
    assert "Send an MP4 file" in refused.json()["error"]["message"]
