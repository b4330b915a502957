"""/videos/{id}/events: progress as server-sent events."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from service.api.deps import Gateway, WithBaseUrl, WithGateway
from service.api.problems import ResponseDocs, problem_docs
from service.api.resources import Video
from service.api.videos import public_video
from service.errors import Unavailable, VideoNotFound
from service.jobs.record import VideoRecord

LOOK_AGAIN_SECONDS = 2.0
"""Without a wake-up: a queue position changes when other jobs do."""

router = APIRouter(prefix="/videos", tags=["videos"])
STREAM_DOCS: ResponseDocs = {
    200: {
        "description": "Events `progress`, then one `completed` or `failed`, each with the whole video; "
        "`deleted` when it is gone. An outage of the queue is waited out.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    **problem_docs(403, 404, 503),
}


@router.get("/{video_id}/events", response_class=StreamingResponse, responses=STREAM_DOCS, summary="Follow a video")
def follow_video(gateway: WithGateway, base_url: WithBaseUrl, video_id: str) -> StreamingResponse:
    """Begins with the present state, ends with the video."""
    record = gateway.store.get(video_id)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        _events(gateway, record, base_url=base_url), media_type="text/event-stream", headers=headers
    )


async def _events(gateway: Gateway, record: VideoRecord, *, base_url: str) -> AsyncIterator[str]:
    told = ""
    with gateway.fanout.bell(record.id, record.job_id) as bell:
        while not gateway.fanout.is_closing:
            bell.clear()
            try:
                video = await run_in_threadpool(_look, gateway, record.id, base_url)
            except VideoNotFound as e:
                yield _event("deleted", f'{{"code":"{e.code}"}}')
                return
            except Unavailable as e:
                yield f": {e.code}, waiting\n\n"
                await _rung(bell)
                continue
            # The same state under other words (a link's expiry) is no news.
            state = video.model_dump_json(exclude={"output", "eta_seconds"})
            yield ": still here\n\n" if state == told else _event(_name_of(video), video.model_dump_json())
            if video.status in ("completed", "failed"):
                return
            told = state
            await _rung(bell)


def _look(gateway: Gateway, video_id: str, base_url: str) -> Video:
    return public_video(gateway, gateway.store.get(video_id), base_url=base_url)


def _name_of(video: Video) -> str:
    return video.status if video.status in ("completed", "failed") else "progress"


def _event(name: str, content: str) -> str:
    return f"event: {name}\ndata: {content}\n\n"


async def _rung(bell: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(bell.wait(), LOOK_AGAIN_SECONDS)
    except TimeoutError:
        return
