import dataclasses

import numpy as np
import pytest

from model.engine import Engine
from model.errors import Cancelled
from model.frames import Frames
from model.params import GenerationParams
from service.jobs.execution import Progress, Signal
from tests.worker.claims import claim_of
from worker.generate import Generation
from worker.held import HeldJob
from worker.shutdown import Shutdown


@pytest.fixture
def params(engine: Engine) -> GenerationParams:
    return dataclasses.replace(engine.card.default_params("a red circle", seed=3), num_inference_steps=4, num_frames=5)


class RecordingJob(HeldJob):
    """Keeps all progress, and runs an action when a step is reached."""

    def __init__(self, params: GenerationParams) -> None:
        super().__init__(claim_of(params, fingerprint="f"))
        self.seen: list[Progress] = []

    def advance(self, progress: Progress) -> None:
        super().advance(progress)
        self.seen.append(progress)
        self.on_step(progress.step)

    def on_step(self, step: int) -> None:
        pass


def generate(engine: Engine, held: HeldJob, shutdown: Shutdown) -> Frames:
    """Alone, as the runner would."""
    generation = Generation(held)
    generation.admit(engine)
    while not generation.is_denoised:
        if generation.must_end(shutdown):
            raise Cancelled
        engine.step([generation.admitted])
        generation.report_step()
    [frames] = engine.decode_all([generation.decode(shutdown)])
    return frames.result()


def test_job_gives_the_frames_that_its_parameters_give(engine: Engine, params: GenerationParams) -> None:
    held = RecordingJob(params)
    frames = generate(engine, held, Shutdown())
    assert np.array_equal(frames.pixels, engine.generate(params).pixels)


def test_progress_never_goes_back_and_names_every_step(engine: Engine, params: GenerationParams) -> None:
    held = RecordingJob(params)
    generate(engine, held, Shutdown())
    percents = [progress.percent for progress in held.seen]
    assert percents == sorted(percents)
    assert percents[-1] == 95
    assert {progress.step for progress in held.seen} == {0, 1, 2, 3, 4}
    assert {progress.stage for progress in held.seen} == {"denoise", "decode"}


@pytest.mark.parametrize("signal", [Signal.CANCEL, Signal.LOST])
def test_unwanted_job_stops_at_the_next_step(engine: Engine, params: GenerationParams, signal: Signal) -> None:
    class Job(RecordingJob):
        def on_step(self, step: int) -> None:
            if step == 2:
                self.signal = signal

    held = Job(params)
    with pytest.raises(Cancelled):
        generate(engine, held, Shutdown())
    assert held.progress.step == 2


def test_shutdown_lets_a_job_end_that_has_time_enough(engine: Engine, params: GenerationParams) -> None:
    shutdown = Shutdown(grace_seconds=600)

    class Job(RecordingJob):
        def on_step(self, step: int) -> None:
            if step == 2:
                shutdown.request()

    assert generate(engine, Job(params), shutdown).num_frames == 5


def test_shutdown_interrupts_a_job_that_would_take_too_long(engine: Engine, params: GenerationParams) -> None:
    shutdown = Shutdown(grace_seconds=0.5)
    shutdown.request()
    with pytest.raises(Cancelled):
        generate(engine, RecordingJob(params), shutdown)
