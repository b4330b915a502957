"""/videos: submit, look at, list, cancel, delete."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Response

from service.api.bodies import Fields, read_fields
from service.api.deps import Gateway, WithBaseUrl, WithGateway
from service.api.problems import problem_docs
from service.api.resources import DeletedVideo, Video, VideoList, adjustments, eta_seconds, video_resource
from service.errors import Conflict, ServiceError, StorageUnavailable
from service.jobs.cache import body_fingerprint
from service.jobs.card import ModelCard
from service.jobs.record import State, Submission, SubmitKind, Submitted, VideoRecord
from service.jobs.request import RequestedVideo, ResolvedVideo, parse, resolve
from service.logs import get_logger
from service.moderation.policy import check_prompts

POLL_AFTER_MS = 1000
"""For the openai SDK, which keeps the interval of its first look, where nothing is known yet."""

SHORTEST_POLL_MS, LONGEST_POLL_MS = 500, 5000
POLLS_PER_VIDEO = 20

REQUEST_EXAMPLE = {
    "prompt": "a red ball bouncing on a blue background",
    "size": "256x256",
    "num_frames": 17,
    "num_inference_steps": 20,
    "seed": 7,
}

log = get_logger(__name__)
router = APIRouter(prefix="/videos", tags=["videos"])


def _request_body() -> dict[str, Any]:
    """OpenAPI text for a body that may come in three encodings."""
    schema = RequestedVideo.model_json_schema()
    json_content = {"schema": schema, "examples": {"embedded": {"value": REQUEST_EXAMPLE}}}
    forms = ("multipart/form-data", "application/x-www-form-urlencoded")
    content = {"application/json": json_content, **{form: {"schema": schema} for form in forms}}
    return {"requestBody": {"required": True, "content": content}}


@router.post(
    "",
    responses=problem_docs(400, 403, 404, 413, 422, 503),
    openapi_extra=_request_body(),
    summary="Submit a prompt",
)
def create_video(
    gateway: WithGateway,
    base_url: WithBaseUrl,
    fields: Annotated[Fields, Depends(read_fields)],
    response: Response,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> Video:
    """Values that the model can't make are snapped to the nearest it can; the reply holds the effective ones.

    With `"strict": true` they are refused instead. Answers 200 at once; poll the video, or read its events.
    """
    try:
        asked = parse(fields)
        card = gateway.store.card(asked.model)
        resolved = _resolve(asked, card)
        submission = _submission(
            asked, resolved, card, body_fingerprint=body_fingerprint(fields), idempotency_key=idempotency_key
        )
        submitted = gateway.queue.submit(submission)
    except ServiceError as e:
        gateway.metrics.refused.labels(e.code).inc()
        raise
    _note(gateway, submitted)
    video = public_video(gateway, submitted.record, base_url=base_url)
    _steer_polls(response, video)
    if submitted.kind is SubmitKind.REPLAYED:
        return video
    return video.model_copy(update={"adjusted": adjustments(resolved)})


@router.get("", responses=problem_docs(400, 403, 503), summary="List videos")
def list_videos(
    gateway: WithGateway,
    base_url: WithBaseUrl,
    after: Annotated[str | None, Query(description="The last id of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> VideoList:
    page = gateway.store.list(after=after, limit=limit, order=order)
    videos = [_listed_video(gateway, record, base_url=base_url) for record in page.records]
    return VideoList(
        data=videos,
        first_id=videos[0].id if videos else None,
        last_id=videos[-1].id if videos else None,
        has_more=page.has_more,
    )


@router.get("/{video_id}", responses=problem_docs(403, 404, 503), summary="Look at a video")
def get_video(gateway: WithGateway, base_url: WithBaseUrl, video_id: str, response: Response) -> Video:
    """Answers 200 for a failed video too: its `error` says why."""
    video = public_video(gateway, gateway.store.get(video_id), base_url=base_url)
    _steer_polls(response, video)
    return video


@router.delete("/{video_id}", responses=problem_docs(403, 404, 503), summary="Delete a video")
def delete_video(gateway: WithGateway, video_id: str) -> DeletedVideo:
    """Removes the record and, when nothing else refers to them, the files. One in the making is cancelled first."""
    asset = gateway.store.delete(video_id)
    if asset is not None:
        _delete_files(gateway, [file.key for file in asset.files])
    return DeletedVideo(id=video_id)


@router.post("/{video_id}/cancel", responses=problem_docs(403, 404, 409, 503), summary="Cancel a video")
def cancel_video(gateway: WithGateway, base_url: WithBaseUrl, video_id: str) -> Video:
    """It shows as failed with the error code "cancelled". Cancelling twice is fine, cancelling an ended one is 409."""
    was_running = gateway.queue.cancel(video_id)
    record = gateway.store.get(video_id)
    if not was_running and record.state is not State.CANCELLED:
        raise Conflict(f"The video has ended already: it is {record.status}.", param="id")
    return public_video(gateway, record, base_url=base_url)


def public_video(gateway: Gateway, record: VideoRecord, *, base_url: str) -> Video:
    """The record as its owner sees it, with links and an estimate."""
    now = gateway.clock()
    return video_resource(
        record,
        video_link=gateway.links.link(record, variant="video", base_url=base_url, now=now),
        thumbnail_link=gateway.links.link(record, variant="thumbnail", base_url=base_url, now=now),
        eta_seconds=remaining_seconds(gateway, record),
    )


def remaining_seconds(gateway: Gateway, record: VideoRecord) -> float | None:
    """An estimate; None when nothing is known, or the video has ended."""
    if record.is_terminal:
        return None
    cards = [card for card in gateway.store.cards() if card.id == record.request.model]
    num_workers = sum(worker.model == record.request.model for worker in gateway.store.live_workers())
    return eta_seconds(record, cards[0] if cards else None, num_workers=num_workers)


def _listed_video(gateway: Gateway, record: VideoRecord, *, base_url: str) -> Video:
    """Without an estimate: it costs Redis two questions a video."""
    now = gateway.clock()
    return video_resource(
        record,
        video_link=gateway.links.link(record, variant="video", base_url=base_url, now=now),
        thumbnail_link=gateway.links.link(record, variant="thumbnail", base_url=base_url, now=now),
    )


def _steer_polls(response: Response, video: Video) -> None:
    """Tell pollers of an unfinished video how long to wait, for some looks over its remaining time."""
    if video.status not in ("queued", "in_progress"):
        return
    eta = video.eta_seconds
    wanted = POLL_AFTER_MS if eta is None else round(eta * 1000 / POLLS_PER_VIDEO)
    response.headers["openai-poll-after-ms"] = str(min(max(wanted, SHORTEST_POLL_MS), LONGEST_POLL_MS))


def _resolve(asked: RequestedVideo, card: ModelCard) -> ResolvedVideo:
    resolved = resolve(asked, card)
    check_prompts(resolved.request.prompt, resolved.request.negative_prompt)
    return resolved


def _submission(
    asked: RequestedVideo,
    resolved: ResolvedVideo,
    card: ModelCard,
    *,
    body_fingerprint: str,
    idempotency_key: str | None,
) -> Submission:
    request = resolved.request
    return Submission(
        request=request,
        fingerprint=card.fingerprint,
        idempotency_key=idempotency_key,
        body_fingerprint=body_fingerprint,
        ignored=resolved.ignored,
        metadata=asked.metadata,
        file_name=asked.file_name,
        expected_seconds=card.estimated_seconds(
            width=request.width,
            height=request.height,
            num_frames=request.num_frames,
            num_inference_steps=request.num_inference_steps,
            rows_per_step=request.rows_per_step,
        ),
    )


def _note(gateway: Gateway, submitted: Submitted) -> None:
    gateway.metrics.submitted.labels(submitted.kind.value).inc()
    request = submitted.record.request
    log.info(
        "video_submitted",
        kind=submitted.kind.value,
        video_id=submitted.record.id,
        job_id=submitted.record.job_id,
        size=f"{request.width}x{request.height}",
        num_frames=request.num_frames,
        num_inference_steps=request.num_inference_steps,
    )


def _delete_files(gateway: Gateway, keys: list[str]) -> None:
    """The record is gone, and with it the way to the files: an outage of the store must not undo that."""
    try:
        gateway.storage.delete(keys)
    except StorageUnavailable:
        log.warning("files_left_behind", keys=keys)
