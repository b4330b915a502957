"""What clients see: the OpenAI Videos shape with our extensions beside it."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.jobs.eta import Eta
from service.jobs.record import Priority, ReviewState, State, VideoError, VideoRecord, Webhook
from service.jobs.request import ResolvedVideo
from service.links import Link


class Error(BaseModel):
    """Why a video failed; a cancelled one has the code "cancelled"."""

    code: str
    message: str


class Output(BaseModel):
    """Links to the files of a completed video. They are made anew for every reply."""

    url: str
    thumbnail_url: str | None = None
    spritesheet_url: str | None = Field(None, description="Evenly spaced frames as one picture, four in a row.")
    expires_at: int | None = Field(None, description="Unix seconds; null for links that do not expire.")


class Review(BaseModel):
    state: ReviewState


class Adjustment(BaseModel):
    """A value that the model can't make, and the one taken instead."""

    requested: str | int | float
    used: str | int | float


class ShownWebhook(BaseModel):
    """Where the video's event goes."""

    url: str
    events: list[str]
    secret: str | None = Field(None, description="In the reply to POST alone, where none was given: it was drawn.")


EXAMPLE: dict[str, Any] = {
    "id": "video_0f3c9d0c7d5b4f0c9a5b6e1f2a3b4c5d",
    "object": "video",
    "created_at": 1795000000,
    "status": "in_progress",
    "progress": 45,
    "model": "wan2.2-t2v-embedded",
    "prompt": "a red ball bouncing on a blue background",
    "seconds": "2",
    "size": "256x256",
    "width": 256,
    "height": 256,
    "num_frames": 17,
    "fps": 8,
    "seed": 1234,
    "num_inference_steps": 20,
    "guidance_scale": 4.0,
    "guidance_scale_2": 4.0,
    "flow_shift": 3.0,
    "stage": "denoise",
    "step": 9,
    "num_steps": 20,
}


class Video(BaseModel):
    """A video, waiting, in the making or finished. All values are the effective ones."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str
    object: Literal["video"] = "video"
    created_at: int = Field(description="Unix seconds.")
    completed_at: int | None = None
    expires_at: int | None = Field(None, description="When the record is removed.")
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: int = Field(ge=0, le=100, description="Never goes back; 100 only when completed.")
    model: str
    prompt: str
    seconds: str
    size: str = Field(description="Of the file: WIDTHxHEIGHT.")
    remixed_from_video_id: str | None = Field(None, description="The video whose parameters it took over.")
    error: Error | None = None
    url: str | None = Field(None, description="Always null; see output.url.")

    width: int
    height: int
    native_size: str = Field(description="What the model draws, before it is enlarged to `size`.")
    num_frames: int
    fps: int
    seed: int
    negative_prompt: str
    num_inference_steps: int
    guidance_scale: float = Field(description="Of the high-noise expert.")
    guidance_scale_2: float = Field(description="Of the low-noise expert.")
    flow_shift: float
    extended_prompt: str | None = Field(None, description="What is drawn, where the prompt was extended.")
    quality: str | None = Field(None, description="The tier that was asked for: draft, standard or high.")
    num_outputs: int = 1
    metadata: dict[str, str] = {}
    file_name: str | None = None

    queue_position: int | None = Field(None, description="Jobs that go before it; null when it does not wait.")
    eta_seconds: float | None = Field(
        None, description="An estimate, until it is completed: the middle of a range. Null when unknown."
    )
    review: Review | None = Field(
        None,
        description="A person looks at it: while queued before it is made, while in_progress before you get it. "
        "Null for most videos.",
    )
    priority: Priority = "standard"
    deadline_seconds: float | None = Field(None, description="From created_at on; it fails when not completed by then.")
    stage: str | None = Field(
        None, description="text, denoise, decode, encode, upload, or review: finished, a person must look at it."
    )
    step: int = 0
    num_steps: int = 0
    attempt: int = Field(0, description="How often a worker has started it.")
    cached: bool = Field(False, description="Answered with the files of an earlier identical request.")
    output: Output | None = None
    started_at: int | None = None
    inference_time_s: float | None = None
    prompt_tokens: int | None = Field(None, description="Of the prompt, once it is known.")
    prompt_tokens_cut: int = Field(0, description="Those beyond what the text encoder holds: it did not see them.")
    peak_memory_mb: float | None = None
    stage_durations: dict[str, float] = Field({}, description="Seconds by stage.")
    webhook: ShownWebhook | None = None
    ignored: list[str] = Field([], description="Request fields that mean nothing here.")
    adjusted: dict[str, Adjustment] = Field(
        {}, description="In the reply to POST: request fields that were snapped to what the model can make."
    )


class VideoList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedVideo(BaseModel):
    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


NOTHING_ADJUSTED: Mapping[str, Adjustment] = {}


def video_resource(
    record: VideoRecord,
    *,
    video_link: Link | None = None,
    thumbnail_link: Link | None = None,
    spritesheet_link: Link | None = None,
    eta: Eta | None = None,
    webhook: ShownWebhook | None = None,
    adjusted: Mapping[str, Adjustment] = NOTHING_ADJUSTED,
) -> Video:
    """The public shape of a record. webhook: how it is shown where not as ever, without its secret."""
    request = record.request
    return Video(
        id=record.id,
        created_at=int(record.created_at),
        completed_at=_seconds(record.finished_at) if record.state is State.COMPLETED else None,
        expires_at=_seconds(record.expires_at),
        status=record.status,
        progress=record.percent,
        model=request.model,
        prompt=request.prompt if record.original_prompt is None else record.original_prompt,
        extended_prompt=None if record.original_prompt is None else request.prompt,
        seconds=request.seconds,
        size=f"{request.delivery_width}x{request.delivery_height}",
        remixed_from_video_id=record.remixed_from_video_id,
        error=_error(record.error),
        width=request.delivery_width,
        height=request.delivery_height,
        native_size=f"{request.width}x{request.height}",
        num_frames=request.num_frames,
        fps=request.fps,
        seed=request.seed,
        negative_prompt=request.negative_prompt,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        guidance_scale_2=request.guidance_scale_2,
        flow_shift=request.flow_shift,
        quality=record.quality,
        metadata=record.metadata,
        file_name=record.file_name,
        queue_position=record.queue_position,
        review=None if record.review is None else Review(state=record.review),
        eta_seconds=None if eta is None else round(eta.likely, 1),
        priority=record.priority,
        deadline_seconds=record.deadline_seconds,
        stage=record.stage,
        step=record.step,
        num_steps=record.num_steps,
        attempt=record.attempt,
        cached=record.cached,
        output=_output(video_link, thumbnail_link, spritesheet_link),
        started_at=_seconds(record.started_at),
        inference_time_s=record.inference_time_seconds,
        prompt_tokens=record.prompt_tokens,
        prompt_tokens_cut=record.prompt_tokens_cut,
        peak_memory_mb=record.peak_memory_mb,
        stage_durations=record.stage_durations,
        webhook=webhook or (None if record.webhook is None else shown_webhook(record.webhook)),
        ignored=list(record.ignored),
        adjusted=dict(adjusted),
    )


def adjustments(resolved: ResolvedVideo) -> dict[str, Adjustment]:
    """What the caller asked for and does not get."""
    return {
        name: Adjustment.model_validate({"requested": wanted, "used": taken})
        for name, (wanted, taken) in resolved.changed.items()
    }


def shown_webhook(webhook: Webhook, *, secret: str | None = None) -> ShownWebhook:
    """Without its secret, unless that is given."""
    return ShownWebhook(url=webhook.url, events=list(webhook.events), secret=secret)


def _output(video: Link | None, thumbnail: Link | None, spritesheet: Link | None) -> Output | None:
    if video is None:
        return None
    return Output(
        url=video.url,
        thumbnail_url=None if thumbnail is None else thumbnail.url,
        spritesheet_url=None if spritesheet is None else spritesheet.url,
        expires_at=_seconds(video.expires_at),
    )


def _error(error: VideoError | None) -> Error | None:
    return None if error is None else Error(code=error.code, message=error.message)


def _seconds(stamp: float | None) -> int | None:
    return None if stamp is None else int(stamp)
