"""Wire format of videos: what was asked, what was made, how it stands.

A video is public, one per request. A job is GPU work; several videos may follow one. An asset is the finished
files; several videos may refer to one. Knows no Redis, no HTTP.
"""

import secrets
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION: Literal[1] = 1
DEFAULT_TENANT = "default"
"""Whose videos they are where no API key is asked for."""

Priority = Literal["interactive", "standard", "bulk"]
PRIORITIES: tuple[Priority, ...] = ("interactive", "standard", "bulk")
"""Each has an RQ queue of its name. While all have work they get 16, 4 and 1 parts of the GPU."""


def new_video_id() -> str:
    return f"video_{_unique()}"


def new_job_id() -> str:
    return f"job_{_unique()}"


def new_asset_id() -> str:
    return f"asset_{_unique()}"


def new_execution_id() -> str:
    return _unique()


def _unique() -> str:
    """128 random bits; a UUID would take three times as long."""
    return secrets.token_hex(16)


def object_key(asset_id: str, execution_id: str, name: str) -> str:
    """Where an execution puts a file. Two executions of one job never write the same object."""
    return f"assets/{asset_id}/{execution_id}/{name}"


def asset_id_in(key: str) -> str | None:
    """Whose file object_key() put there; None of any other object."""
    folder, *rest = key.split("/")
    return rest[0] if folder == "assets" and len(rest) == 3 else None


def checkpoint_key(job_id: str, execution_id: str, step: int) -> str:
    """Where an execution puts the job's state; each is written once."""
    return f"checkpoints/{job_id}/{execution_id}-{step}.safetensors"


class State(StrEnum):
    """A video's life, in order."""

    QUEUED = "queued"
    """Waits for a worker, perhaps again after one died."""

    STARTED = "started"
    """A worker denoises it."""

    FINISHING = "finishing"
    """Decoded; encoding and upload run."""

    COMPLETED = "completed"
    """The files are there."""

    FAILED = "failed"
    """error says why."""

    CANCELLED = "cancelled"
    """Its owner stopped it."""

    EXPIRED = "expired"
    """Its deadline passed before it was completed."""

    @property
    def is_terminal(self) -> bool:
        return self in (State.COMPLETED, State.FAILED, State.CANCELLED, State.EXPIRED)


PublicStatus = Literal["queued", "in_progress", "completed", "failed"]


class Wire(BaseModel):
    """Fields that a newer version adds are left out here, not refused."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


EventType = Literal["video.completed", "video.failed"]
EVENT_TYPES: tuple[EventType, ...] = ("video.completed", "video.failed")
"""Every video ends with exactly one of them."""


class Webhook(Wire):
    """Where one video's event goes, by its own request."""

    url: str
    events: tuple[EventType, ...]
    secret: str = Field(repr=False)


LabelPosition = Literal["top-left", "top-right", "bottom-left", "bottom-right"]


class VisibleLabel(Wire):
    """What is drawn on one clip. A part of its request: it decides pixels."""

    text: str | None = None
    """Lines between line feeds; None: a logo alone."""

    position: LabelPosition = "bottom-right"
    opacity: float = 1.0
    seconds: float | None = None
    logo: str | None = None
    logo_position: LabelPosition = "top-left"


class VideoRequest(Wire):
    """The effective request: snapped, defaults filled in, seed drawn. It decides every pixel of the file."""

    schema_version: Literal[1] = SCHEMA_VERSION
    model: str
    """The card's id, never an alias."""

    prompt: str
    negative_prompt: str
    width: int
    """Native: what the engine makes."""

    height: int
    delivery_width: int
    """What the file has."""

    delivery_height: int
    num_frames: int
    fps: int
    seconds: str
    """As the OpenAI shape shows it: "5" where num_frames is what 5 seconds snap to, else with decimals."""

    num_inference_steps: int
    guidance_scale: float
    """High-noise expert."""

    guidance_scale_2: float
    """Low-noise expert."""

    flow_shift: float
    seed: int
    visible_label: VisibleLabel | None = None

    @property
    def shape(self) -> str:
        """Only equal ones share a forward."""
        return f"{self.width}x{self.height}x{self.num_frames}"

    @property
    def rows_per_step(self) -> int:
        """2 where classifier-free guidance is on for either expert."""
        return 2 if max(self.guidance_scale, self.guidance_scale_2) > 1 else 1


class VideoError(Wire):
    code: str
    message: str


class AssetFile(Wire):
    """One object in storage."""

    key: str
    content_type: str
    size_bytes: int
    sha256: str | None = None
    """Hex, of the whole file."""


class Asset(Wire):
    """The finished files of one job."""

    id: str
    video: AssetFile
    thumbnail: AssetFile | None = None
    spritesheet: AssetFile | None = None
    width: int
    """Delivered."""

    height: int
    num_frames: int
    fps: int
    fingerprint: str | None = None
    """Of the checkpoint that made it."""

    revision: str | None = None
    """Of that checkpoint, as those who published it call it."""

    packets_sha256: str | None = None
    """Of the video's coded pictures alone: the same in another container."""

    watermark_id: int | None = None
    """The number that its pictures carry; None: they carry no mark."""

    @property
    def files(self) -> tuple[AssetFile, ...]:
        return tuple(file for file in (self.video, self.thumbnail, self.spritesheet) if file is not None)


class Parent(Wire):
    """The finished file whose parameters a remix takes over."""

    asset_id: str
    key: str
    """Of the object, which may be gone by the time that it is wanted."""


class FilterVerdict(Wire):
    """What the prompt filter said of a request that it let pass."""

    action: Literal["allow", "review"]
    category: str | None = None
    """What a person was to look at it for; None of an allowed one, and where everything is looked at."""

    scores: dict[str, float] = {}
    """By category, from 0 to 1; those that are 0 to three places are left out."""


ReviewState = Literal["pending", "approved", "rejected", "withdrawn"]
ReviewStage = Literal["prompt", "frames"]
"""What a person looks at: a prompt before anything is made of it, or finished frames before anybody gets them."""


class VideoRecord(Wire):
    """The public resource, put together from the video's own hash and its job's."""

    id: str
    job_id: str
    state: State
    request: VideoRequest
    created_at: float
    """Unix seconds on Redis' clock, as all stamps here."""

    started_at: float | None = None
    finished_at: float | None = None
    expires_at: float | None = None
    percent: int = 0
    """Never goes back; 100 only when completed."""

    stage: str | None = None
    step: int = 0
    num_steps: int = 0
    attempt: int = 0
    """How often a worker has started it."""

    queue_position: int | None = None
    """Jobs that go before it; None when not waiting."""

    seconds_ahead: float | None = None
    """Estimated GPU seconds of those jobs."""

    num_running: int | None = None
    """Jobs that workers hold while it waits; None when not waiting."""

    review: ReviewState | None = None
    """Of the job that it follows, the latest; None of one that nobody had to look at."""

    cached: bool = False
    """Answered from an earlier identical request's files."""

    asset: Asset | None = None
    error: VideoError | None = None
    stage_durations: dict[str, float] = {}
    inference_time_seconds: float | None = None
    peak_memory_mb: float | None = None
    worker: str | None = None
    prompt_tokens: int | None = None
    prompt_tokens_cut: int = 0
    ignored: tuple[str, ...] = ()
    """Request fields that were not understood."""

    metadata: dict[str, str] = {}
    """The caller's own words, given back unchanged."""

    file_name: str | None = None
    """What a download is called."""

    tenant: str = DEFAULT_TENANT
    priority: Priority = "standard"
    deadline_seconds: float | None = None
    """From created_at on."""

    webhook: Webhook | None = None
    """Shown without its secret."""

    quality: str | None = None
    """The tier that was asked for by name."""

    original_prompt: str | None = None
    """The caller's own, where the request has an extended one."""

    remixed_from_video_id: str | None = None
    """Whose parameters it took over."""

    key_id: str | None = None
    """Of the API key that asked for it; None where none was needed, and of a batch's."""

    @property
    def is_terminal(self) -> bool:
        return self.state.is_terminal

    @property
    def is_held(self) -> bool:
        """Its files are there, and a person must look at them first."""
        return self.state is State.FINISHING and self.review == "pending"

    @property
    def status(self) -> PublicStatus:
        match self.state:
            case State.QUEUED:
                return "queued"
            case State.STARTED | State.FINISHING:
                return "in_progress"
            case State.COMPLETED:
                return "completed"
            case State.FAILED | State.CANCELLED | State.EXPIRED:
                return "failed"


class WorkerInfo(Wire):
    """A worker that is alive and has its model warm."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    model: str
    device: str
    started_at: float
    host: str
    pid: int
    metrics_port: int | None = None
