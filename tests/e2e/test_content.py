"""The file shows what the prompt said: looked at in pixels, after encoding, storage and decoding."""

import io
from collections.abc import Callable

import av
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from service.embedded.process import free_ports
from service.jobs.store import VideoStore
from service.provenance.evidence import Seal, examine
from service.provenance.notary import known_anchors
from service.settings import Settings
from service.storage import Storage
from tests.e2e.conftest import Workers

Submit = Callable[..., str]
WaitUntil = Callable[..., None]
Frames = NDArray[np.uint8]
RED, BLUE = 0, 2


def decoded(content: bytes) -> Frames:
    """f h w 3"""
    with av.open(io.BytesIO(content)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def where(frames: Frames, channel: int) -> NDArray[np.bool_]:
    """f h w: pixels in which this channel stands out clearly."""
    levels = frames.astype(int)
    others = [levels[..., other] for other in range(3) if other != channel]
    return levels[..., channel] > np.maximum(*others) + 60


def border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The outermost sixteenth of every frame."""
    width = mask.shape[2] // 16
    inner = np.zeros_like(mask)
    inner[:, width:-width, width:-width] = True
    return mask[~inner]


def assert_proven(content: bytes, asset_id: str, settings: Settings) -> None:
    path = settings.data_dir / f"{asset_id}.mp4"
    path.write_bytes(content)
    evidence = examine(path, anchors=known_anchors(settings))
    assert evidence.signature.seal is Seal.TRUSTED
    assert evidence.signature.generation is not None
    assert evidence.signature.generation["asset_id"] == asset_id
    assert evidence.label is not None
    assert evidence.label["ProduceID"] == asset_id


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.with_changes(worker_metrics_port=free_ports(["metrics"])["metrics"])


PROMPTS = [("a red ball on a blue background", RED, BLUE), ("一个蓝色的球在红色背景上", BLUE, RED)]


def test_ball_and_background_have_the_colours_of_the_prompt(
    workers: Workers, submit: Submit, store: VideoStore, storage: Storage, settings: Settings, wait_until: WaitUntil
) -> None:
    workers.start_command()
    video_ids = [submit(prompt, seed=1) for prompt, _, _ in PROMPTS]
    wait_until(lambda: all(store.get(video_id).is_terminal for video_id in video_ids))
    for video_id, (_, ball, background) in zip(video_ids, PROMPTS, strict=True):
        asset = store.get(video_id).asset
        assert asset is not None, workers.logs()
        content = b"".join(storage.read(asset.video.key))
        frames = decoded(content)
        assert frames.shape == (17, 256, 256, 3)
        assert border(where(frames, background)).mean() > 0.9
        ball_share = where(frames, ball).mean(axis=(1, 2))
        assert (ball_share > 0.02).all(), "a frame has no ball"
        assert (ball_share < 0.6).all(), "a frame is all ball"
        assert_proven(content, asset.id, settings)
    metrics = httpx.get(f"http://{settings.host}:{settings.worker_metrics_port}/metrics", trust_env=False).text
    assert 'wanserve_jobs_finished_total{outcome="completed"} 2.0' in metrics
    assert "wanserve_denoising_steps_total 40.0" in metrics
    assert "wanserve_worker_ready 1.0" in metrics
