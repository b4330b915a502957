"""What DashScope's clients send and see: tasks, where our own surface has videos."""

from datetime import datetime, timedelta, timezone
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.errors import InvalidRequest
from service.jobs.fields import Flag, Number, Text, Whole, validated
from service.jobs.record import State, VideoRecord
from service.links import Link

TaskStatus = Literal["PENDING", "RUNNING", "SUSPENDED", "SUCCEEDED", "FAILED", "CANCELED", "UNKNOWN"]

MAX_PROMPT_CHARACTERS = 800
MAX_NEGATIVE_PROMPT_CHARACTERS = 500
MAX_TASK_SEED = 2**31 - 1

BEIJING = timezone(timedelta(hours=8))
"""DashScope tells and takes times of day without saying so, on this clock."""

NOT_MADE = (
    "img_url",
    "audio_url",
    "first_frame_url",
    "last_frame_url",
    "head_frame",
    "tail_frame",
    "reference_url",
    "reference_urls",
    "reference_video_urls",
    "media",
    "template",
)
"""Inputs that a text-to-video model must not silently leave out."""

OUR_OWN = ("num_frames", "fps", "num_inference_steps", "guidance_scale", "guidance_scale_2", "flow_shift", "quality")
"""Parameters that DashScope does not have and this service takes here too."""

REQUEST_EXAMPLE = {
    "model": "wan2.2-t2v-plus",
    "input": {"prompt": "a red ball bouncing on a blue background"},
    "parameters": {"size": "832*480", "duration": 5, "seed": 3},
}

_FAILURES = {"moderation_blocked": "DataInspectionFailed", "deadline_exceeded": "InternalError.Timeout"}
"""By our code; everything else that goes wrong is an InternalError there."""


class SynthesisInput(BaseModel):
    """What to draw."""

    model_config = ConfigDict(extra="allow")

    prompt: Text = Field(max_length=MAX_PROMPT_CHARACTERS)
    negative_prompt: Text | None = Field(None, max_length=MAX_NEGATIVE_PROMPT_CHARACTERS)


class SynthesisParameters(BaseModel):
    """How."""

    model_config = ConfigDict(extra="allow")

    size: Text | None = Field(None, description="WIDTH*HEIGHT; snapped to what the model can make.")
    duration: Number | None = Field(None, gt=0, le=600, description="Seconds.")
    seed: Whole | None = Field(None, ge=0, le=MAX_TASK_SEED)
    watermark: Flag = Field(False, description="Asks for a label that viewers see; else the service decides.")
    prompt_extend: Flag = Field(False, description="Where it is set up; else it changes nothing.")


class Synthesis(BaseModel):
    """The body of a submission; what lies in its members is checked by itself, so that an error names it."""

    model: Text
    input: dict[str, Any]
    parameters: dict[str, Any] | None = None


SYNTHESIS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["model", "input"],
    "properties": {
        "model": {"type": "string"},
        "input": SynthesisInput.model_json_schema(),
        "parameters": SynthesisParameters.model_json_schema(),
    },
    "examples": [REQUEST_EXAMPLE],
}
"""For /openapi.json."""


class NewTask(BaseModel):
    task_id: str
    task_status: TaskStatus


class NewTaskReply(BaseModel):
    output: NewTask
    request_id: str


class Task(BaseModel):
    """A video as a task; a task that does not exist (any more) is UNKNOWN."""

    task_id: str
    task_status: TaskStatus
    submit_time: str | None = Field(None, description="Beijing time, as all stamps of a task.")
    scheduled_time: str | None = None
    end_time: str | None = None
    video_url: str | None = Field(None, description="Made anew for every reply; signed, needs no API key.")
    orig_prompt: str | None = None
    actual_prompt: str | None = None
    code: str | None = None
    message: str | None = None


class TaskUsage(BaseModel):
    video_count: int = 1
    video_duration: int = Field(description="Whole seconds.")
    video_ratio: str = Field(description="Of the file: WIDTH*HEIGHT.")


class TaskReply(BaseModel):
    output: Task
    usage: TaskUsage | None = None
    request_id: str


class ListedTask(BaseModel):
    task_id: str
    status: TaskStatus
    model_name: str
    gmt_create: int = Field(description="Unix milliseconds, as all stamps of a listed task.")
    start_time: int | None = None
    end_time: int | None = None


class TaskListReply(BaseModel):
    data: list[ListedTask]
    page_no: int
    page_size: int
    total: int = Field(description="Of the newest tasks that were looked through.")
    total_page: int
    request_id: str


class CancelReply(BaseModel):
    request_id: str


def requested_fields(body: dict[str, Any], *, extends_prompts: bool) -> dict[str, Any]:
    """The same request as POST /videos takes it. Raises InvalidRequest."""
    asked = validated(Synthesis, body)
    asked_input = validated(SynthesisInput, asked.input)
    parameters = validated(SynthesisParameters, asked.parameters or {})
    for name in NOT_MADE:
        if (asked_input.model_extra or {}).get(name):
            raise InvalidRequest(f"input.{name} is not supported: this is a text-to-video model.", param=name)
    extra = parameters.model_extra or {}
    fields = {
        "model": asked.model,
        "prompt": asked_input.prompt,
        "negative_prompt": asked_input.negative_prompt,
        "size": parameters.size,
        "seconds": parameters.duration,
        "seed": parameters.seed,
        "extend_prompt": (parameters.prompt_extend and extends_prompts) or None,
        "visible_label": parameters.watermark or None,
        **{name: extra.get(name) for name in OUR_OWN},
    }
    return {name: value for name, value in fields.items() if value is not None}


def status_of(state: State) -> TaskStatus:
    match state:
        case State.QUEUED:
            return "PENDING"
        case State.STARTED | State.FINISHING:
            return "RUNNING"
        case State.COMPLETED:
            return "SUCCEEDED"
        case State.FAILED | State.EXPIRED:
            return "FAILED"
        case State.CANCELLED:
            return "CANCELED"


def task_of(record: VideoRecord, video_link: Link | None) -> Task:
    error = record.error
    is_completed = record.state is State.COMPLETED
    return Task(
        task_id=record.id,
        task_status=status_of(record.state),
        submit_time=_stamp(record.created_at),
        scheduled_time=_stamp(record.started_at),
        end_time=_stamp(record.finished_at),
        video_url=None if video_link is None else video_link.url,
        orig_prompt=record.request.prompt if record.original_prompt is None else record.original_prompt,
        actual_prompt=record.request.prompt if is_completed else None,
        code=None if error is None else _FAILURES.get(error.code, "InternalError"),
        message=None if error is None else error.message,
    )


def usage_of(record: VideoRecord) -> TaskUsage | None:
    """None until there is a file."""
    if record.state is not State.COMPLETED:
        return None
    request = record.request
    return TaskUsage(
        video_duration=max(1, round(request.num_frames / request.fps)),
        video_ratio=f"{request.delivery_width}*{request.delivery_height}",
    )


def listed_task(record: VideoRecord) -> ListedTask:
    return ListedTask(
        task_id=record.id,
        status=status_of(record.state),
        model_name=record.request.model,
        gmt_create=round(record.created_at * 1000),
        start_time=_milliseconds(record.started_at),
        end_time=_milliseconds(record.finished_at),
    )


def _stamp(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, BEIJING).isoformat(" ", "milliseconds").partition("+")[0]


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
