"""/videos: submit, look at, list, cancel, delete."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from service.api.auth import WithCreator, WithReader
from service.api.bodies import SMALL_BODY_BYTES, Fields, read_fields
from service.api.body_docs import body_docs
from service.api.deps import Gateway, WithGateway, base_url_of, gateway_in
from service.api.orders import Accepted, Order, accept, accept_soon, counting_refusals
from service.api.problems import Problem, problem_docs
from service.api.resources import (
    NOTHING_ADJUSTED,
    Adjustment,
    DeletedVideo,
    ShownWebhook,
    Video,
    VideoList,
    adjustments,
    shown_webhook,
    video_resource,
)
from service.errors import Conflict, NotSupported
from service.jobs.cache import body_fingerprint
from service.jobs.eta import eta_of
from service.jobs.fleet import Fleet
from service.jobs.record import Parent, State, VideoRecord, Webhook
from service.jobs.request import RequestedVideo, RequestedWebhook, parse, parse_remix
from service.jobs.submission import SubmitKind
from service.tenants import Tenant
from service.webhooks.secret import checked_secret, new_secret

POLL_AFTER_MS = 1000
"""For the openai SDK, which keeps the interval of its first look, where nothing is known yet."""

SHORTEST_POLL_MS, LONGEST_POLL_MS = 500, 5000
POLLS_PER_VIDEO = 20

REMIX_EXAMPLE = {"prompt": "a blue ball bouncing on a white background"}
REQUEST_EXAMPLE = {
    "prompt": "a red ball bouncing on a blue background",
    "size": "256x256",
    "num_frames": 17,
    "num_inference_steps": 20,
    "seed": 7,
}

router = APIRouter(prefix="/videos", tags=["videos"])


class Remix(BaseModel):
    """Beside the prompt it may hold what changes no pixel: webhook, metadata, priority."""

    model_config = ConfigDict(extra="allow")

    prompt: str = Field(description="What to draw instead.")


IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=255)]
NOT_SUPPORTED: dict[str, Any] = {
    "status_code": 400,
    "response_model": Problem,
    "responses": problem_docs(400, 401, 403, 503),
}


@router.post(
    "",
    response_model=Video,
    responses=problem_docs(400, 401, 403, 404, 413, 422, 429, 503),
    openapi_extra=body_docs(RequestedVideo, example=REQUEST_EXAMPLE),
    summary="Submit a prompt",
)
async def create_video(
    request: Request,
    tenant: WithCreator,
    fields: Annotated[Fields, Depends(read_fields)],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Values that the model can't make are snapped to the nearest it can; the reply holds the effective ones.

    With `"strict": true` they are refused instead. Answers 200 at once; poll the video, or read its events.
    """
    gateway = gateway_in(request)
    with counting_refusals(gateway):
        if _is_small(request):
            order = _order(gateway, tenant, fields, idempotency_key)
            accepted = await accept_soon(gateway, order)
        else:
            order = await run_in_threadpool(_order, gateway, tenant, fields, idempotency_key)
            accepted = await run_in_threadpool(accept, gateway, order)
    show = partial(_accepted_video, gateway, order, accepted, base_url=base_url_of(request))
    return _reply(await _shown(gateway, accepted.submitted.record, show))


def _is_small(request: Request) -> bool:
    """Whether the body is read in a moment, as all that are meant as requests are."""
    length = request.headers.get("content-length", "")
    return length.isdecimal() and int(length) <= SMALL_BODY_BYTES


def _order(gateway: Gateway, tenant: Tenant, fields: Fields, idempotency_key: str | None) -> Order:
    asked = parse(fields)
    return Order(
        asked,
        tenant,
        webhook=webhook_of(gateway, asked.webhook),
        body_fingerprint=body_fingerprint(fields),
        idempotency_key=idempotency_key,
    )


async def _shown(gateway: Gateway, record: VideoRecord, show: Callable[[], Video]) -> Video:
    """On a thread where links are presigned: that takes milliseconds, and may ask for new credentials first."""
    if record.asset is not None and gateway.settings.s3_public_endpoint is not None:
        return await run_in_threadpool(show)
    return show()


@router.post(
    "/{video_id}/remix",
    response_model=Video,
    responses=problem_docs(400, 401, 403, 404, 413, 422, 429, 503),
    openapi_extra=body_docs(Remix, example=REMIX_EXAMPLE),
    summary="Make a video again with another prompt",
)
def remix_video(
    gateway: WithGateway,
    tenant: WithCreator,
    request: Request,
    video_id: str,
    fields: Annotated[Fields, Depends(read_fields)],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """A new video with the effective parameters of another one, its seed too: what the prompt does not name stays."""
    original = gateway.store.get(video_id, tenant=tenant.name)
    with counting_refusals(gateway):
        asked = parse_remix(fields, original.request)
        order = Order(
            asked,
            tenant,
            webhook=webhook_of(gateway, asked.webhook),
            body_fingerprint=body_fingerprint({**fields, "remixed_from_video_id": video_id}),
            idempotency_key=idempotency_key,
            remixed_from_video_id=video_id,
            parent=_parent(original),
        )
        accepted = accept(gateway, order)
    return _reply(_accepted_video(gateway, order, accepted, base_url=base_url_of(request)))


@router.post("/edits", **NOT_SUPPORTED, summary="Not supported: edit a video")
@router.post("/extensions", **NOT_SUPPORTED, summary="Not supported: continue a video")
@router.post("/characters", **NOT_SUPPORTED, summary="Not supported: make a character")
def refuse_what_needs_a_picture(_tenant: WithCreator) -> Response:
    """Always 400: a text-to-video model takes no video and no picture."""
    raise NotSupported("This model makes videos from text alone: it can't edit or continue one, nor keep a character.")


@router.get("", responses=problem_docs(400, 401, 403, 503), summary="List videos")
def list_videos(
    gateway: WithGateway,
    tenant: WithReader,
    request: Request,
    after: Annotated[str | None, Query(description="The last id of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> VideoList:
    page = gateway.store.list(after=after, limit=limit, order=order, tenant=tenant.name)
    videos = [_listed_video(gateway, record, base_url=base_url_of(request)) for record in page.records]
    return VideoList(
        data=videos,
        first_id=videos[0].id if videos else None,
        last_id=videos[-1].id if videos else None,
        has_more=page.has_more,
    )


@router.get("/{video_id}", response_model=Video, responses=problem_docs(401, 403, 404, 503), summary="Look at a video")
async def get_video(request: Request, tenant: WithReader, video_id: str) -> Response:
    """Answers 200 for a failed video too: its `error` says why."""
    gateway = gateway_in(request)
    record, fleet = await gateway.quick.look(video_id, tenant=tenant.name)
    show = partial(public_video, gateway, record, base_url=base_url_of(request), fleet=fleet)
    return _reply(await _shown(gateway, record, show))


@router.delete("/{video_id}", responses=problem_docs(401, 403, 404, 503), summary="Delete a video")
def delete_video(gateway: WithGateway, tenant: WithCreator, video_id: str) -> DeletedVideo:
    """Removes the record and, when nothing else refers to them, the files. One in the making is cancelled first."""
    gateway.store.delete(video_id, tenant=tenant.name)
    return DeletedVideo(id=video_id)


@router.post("/{video_id}/cancel", responses=problem_docs(401, 403, 404, 409, 503), summary="Cancel a video")
def cancel_video(gateway: WithGateway, tenant: WithCreator, request: Request, video_id: str) -> Video:
    """It shows as failed with the error code "cancelled". Cancelling twice is fine, cancelling an ended one is 409."""
    was_running = gateway.queue.cancel(video_id, tenant=tenant.name)
    record = gateway.store.get(video_id, tenant=tenant.name)
    if not was_running and record.state is not State.CANCELLED:
        raise Conflict(f"The video has ended already: it is {record.status}.", param="id")
    return public_video(gateway, record, base_url=base_url_of(request))


def public_video(
    gateway: Gateway,
    record: VideoRecord,
    *,
    base_url: str,
    fleet: Fleet | None = None,
    webhook: ShownWebhook | None = None,
    adjusted: Mapping[str, Adjustment] = NOTHING_ADJUSTED,
) -> Video:
    """The record as its owner sees it, with links and an estimate. fleet: where it is known already."""
    now = gateway.clock()
    return video_resource(
        record,
        video_link=gateway.links.link(record, variant="video", base_url=base_url, now=now),
        thumbnail_link=gateway.links.link(record, variant="thumbnail", base_url=base_url, now=now),
        spritesheet_link=gateway.links.link(record, variant="spritesheet", base_url=base_url, now=now),
        eta=None if record.is_terminal else eta_of(record, fleet or gateway.store.fleet()),
        webhook=webhook,
        adjusted=adjusted,
    )


def _parent(original: VideoRecord) -> Parent | None:
    """Whose history the remix carries on."""
    asset = original.asset
    return None if asset is None else Parent(asset_id=asset.id, key=asset.video.key)


def _accepted_video(gateway: Gateway, order: Order, accepted: Accepted, *, base_url: str) -> Video:
    """What the one who submitted it sees: of a new video also what was snapped, and its webhook's drawn secret."""
    submitted = accepted.submitted
    if submitted.kind is SubmitKind.REPLAYED:
        return public_video(gateway, submitted.record, base_url=base_url, fleet=accepted.fleet)
    return public_video(
        gateway,
        submitted.record,
        base_url=base_url,
        fleet=accepted.fleet,
        webhook=_new_webhook(order.asked, order.webhook),
        adjusted=adjustments(accepted.resolved),
    )


def _listed_video(gateway: Gateway, record: VideoRecord, *, base_url: str) -> Video:
    """Without an estimate: nobody waits for a list."""
    now = gateway.clock()
    return video_resource(
        record,
        video_link=gateway.links.link(record, variant="video", base_url=base_url, now=now),
        thumbnail_link=gateway.links.link(record, variant="thumbnail", base_url=base_url, now=now),
        spritesheet_link=gateway.links.link(record, variant="spritesheet", base_url=base_url, now=now),
    )


def _reply(video: Video) -> Response:
    """Dumped here: FastAPI would check a model that we made, on another thread."""
    return Response(video.model_dump_json(), media_type="application/json", headers=_poll_hint(video))


def _poll_hint(video: Video) -> dict[str, str]:
    """Tells pollers of an unfinished video how long to wait, for some looks over its remaining time."""
    if video.status not in ("queued", "in_progress"):
        return {}
    eta = video.eta_seconds
    wanted = POLL_AFTER_MS if eta is None else round(eta * 1000 / POLLS_PER_VIDEO)
    return {"openai-poll-after-ms": str(min(max(wanted, SHORTEST_POLL_MS), LONGEST_POLL_MS))}


def webhook_of(gateway: Gateway, asked: RequestedWebhook | None) -> Webhook | None:
    """With a secret drawn where none is given. Raises InvalidRequest for a URL that must not be asked."""
    if asked is None:
        return None
    gateway.receiver_rules.receiver(asked.url, param="webhook.url")
    secret = new_secret() if asked.secret is None else checked_secret(asked.secret, param="webhook.secret")
    return Webhook(url=asked.url, events=asked.events, secret=secret)


def _new_webhook(asked: RequestedVideo, webhook: Webhook | None) -> ShownWebhook | None:
    """A drawn secret is shown here, and never again."""
    if asked.webhook is None or webhook is None:
        return None
    return shown_webhook(webhook, secret=webhook.secret if asked.webhook.secret is None else None)
