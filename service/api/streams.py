"""/videos/{id}/events: progress as server-sent events."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from service.api.auth import WithReader
from service.api.deps import Gateway, WithGateway, base_url_of
from service.api.places import StreamPlaces
from service.api.problems import ResponseDocs, problem_docs
from service.api.resources import Video
from service.api.videos import public_video
from service.errors import Unavailable, VideoNotFound
from service.jobs.record import State, VideoRecord

LOOK_AGAIN_SECONDS = 2.0
"""Without a wake-up: a queue position changes when other jobs do."""

ENDED = ("completed", "failed")

router = APIRouter(prefix="/videos", tags=["videos"])
EVENT_SCHEMA = {
    "type": "object",
    "description": "One event.",
    "properties": {
        "id": {"type": "string", "description": "Names a state: give it back as Last-Event-ID."},
        "event": {"enum": ["progress", "preview", "completed", "failed", "deleted"]},
        "data": {"type": "string", "description": "JSON: the whole video, or of a preview its image_url."},
    },
    "required": ["event", "data"],
}
STREAM_DOCS: ResponseDocs = {
    200: {
        "description": "Events `progress`, then one `completed` or `failed`, each with the whole video; between them "
        "`preview`, a small picture of what it is becoming; `deleted` when it is gone. An outage is waited out.",
        "content": {"text/event-stream": {"schema": EVENT_SCHEMA}},
    },
    204: {"description": "The video has ended, and Last-Event-ID names that end."},
    **problem_docs(401, 403, 404, 429, 503),
}


@router.get("/{video_id}/events", response_class=StreamingResponse, responses=STREAM_DOCS, summary="Follow a video")
def follow_video(
    gateway: WithGateway,
    tenant: WithReader,
    request: Request,
    video_id: str,
    last_event_id: Annotated[
        str | None, Header(description="Of the last event that was read, to go on after it.")
    ] = None,
) -> Response:
    """Begins with the present state, unless Last-Event-ID names it, and ends with the video."""
    record, base_url = gateway.store.get(video_id, tenant=tenant.name), base_url_of(request)
    if record.is_terminal and last_event_id == _id_of(public_video(gateway, record, base_url=base_url)):
        # What makes an EventSource stop asking.
        return Response(status_code=204)
    events = _events(gateway, record, base_url=base_url, told=last_event_id or "")
    return EventStream(events, gateway.places, tenant=tenant.name)


class EventStream(StreamingResponse):
    """Holds one of the places while it is sent. Raises TooManyStreams before it begins."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], places: StreamPlaces, *, tenant: str) -> None:
        super().__init__(events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._places = places
        self._tenant = tenant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._places.place(self._tenant):
            await super().__call__(scope, receive, send)


async def _events(gateway: Gateway, record: VideoRecord, *, base_url: str, told: str) -> AsyncIterator[str]:
    shown: str | None = None
    with gateway.fanout.bell(record.id, record.job_id) as bell:
        while not gateway.fanout.is_closing:
            bell.clear()
            try:
                video, preview = await run_in_threadpool(_look, gateway, record, base_url)
            except VideoNotFound as e:
                yield _event("deleted", f'{{"code":"{e.code}"}}')
                return
            except Unavailable as e:
                yield f": {e.code}, waiting\n\n"
                await _rung(bell)
                continue
            event_id = _id_of(video)
            if preview is not None and preview != shown:
                yield _event("preview", _picture(video, preview))
            yield ": still here\n\n" if event_id == told else _event(_name_of(video), video.model_dump_json(), event_id)
            if video.status in ENDED:
                return
            told, shown = event_id, preview
            await _rung(bell)


def _look(gateway: Gateway, record: VideoRecord, base_url: str) -> tuple[Video, str | None]:
    """The video as it is now, and a picture of it while it runs."""
    record = gateway.store.get(record.id)
    preview = gateway.store.preview(record.job_id) if record.state is State.STARTED else None
    return public_video(gateway, record, base_url=base_url), preview


def _id_of(video: Video) -> str:
    """Names a state: the same one under other words (a link's expiry) is no news."""
    state = video.model_dump_json(exclude={"output", "eta_seconds"})
    return hashlib.sha256(state.encode()).hexdigest()[:16]


def _name_of(video: Video) -> str:
    return video.status if video.status in ENDED else "progress"


def _picture(video: Video, preview: str) -> str:
    return json.dumps({"id": video.id, "step": video.step, "image_url": f"data:image/webp;base64,{preview}"})


def _event(name: str, content: str, event_id: str = "") -> str:
    named = f"id: {event_id}\n" if event_id else ""
    return f"{named}event: {name}\ndata: {content}\n\n"


async def _rung(bell: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(bell.wait(), LOOK_AGAIN_SECONDS)
    except TimeoutError:
        return
