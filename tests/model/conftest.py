"""The embedded checkpoint: in our engine, in diffusers' pipeline, and as a folder to break."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from diffusers import WanPipeline

from model.engine import Engine
from model.folder import embedded_path
from model.params import GenerationParams

MakeParams = Callable[..., GenerationParams]


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine.from_pretrained("embedded", device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def stock_pipeline() -> WanPipeline:
    # In float64: what is measured is then the engine's rounding alone, without the pipeline's own.
    pipeline = WanPipeline.from_pretrained(embedded_path(), dtype=torch.float32, local_files_only=True)
    pipeline.to(torch.float64)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def make_params(engine: Engine) -> MakeParams:
    """A small quick request; keywords change single values."""

    def make(**changes: Any) -> GenerationParams:
        quick = {"width": 64, "height": 64, "num_frames": 5, "num_inference_steps": 3}
        return replace(engine.card.default_params("a red circle moves left"), **(quick | changes))

    return make


@pytest.fixture
def checkpoint_copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(embedded_path(), tmp_path / "checkpoint"))
