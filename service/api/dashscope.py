"""/api/v1: Alibaba's DashScope as its SDK speaks it, for those who have code for Wan's cloud API.

A thin adapter: a task is a video, its id the video's.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request

from service.api.auth import WithCreator, WithReader
from service.api.bodies import Fields, read_fields
from service.api.dashscope_problems import TaskRoute, task_problem_docs
from service.api.dashscope_resources import (
    SYNTHESIS_SCHEMA,
    CancelReply,
    NewTask,
    NewTaskReply,
    Task,
    TaskListReply,
    TaskReply,
    TaskStatus,
    listed_task,
    requested_fields,
    status_of,
    task_of,
    usage_of,
)
from service.api.deps import Gateway, WithGateway, base_url_of
from service.api.orders import Order, accept, counting_refusals
from service.errors import Conflict, Forbidden, VideoNotFound
from service.jobs.cache import body_fingerprint
from service.jobs.record import State, VideoRecord
from service.jobs.request import parse
from service.jobs.store import MAX_PAGE

MAX_LISTED = 1000
"""A list looks through a tenant's newest tasks only: its pages have numbers, so each look begins at the first."""

router = APIRouter(prefix="/api/v1", tags=["DashScope"], route_class=TaskRoute)


async def request_id_of(request: Request) -> str:
    return str(request.scope["request_id"])


WithRequestId = Annotated[str, Depends(request_id_of)]

_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": SYNTHESIS_SCHEMA}}}
}


@router.post(
    "/services/aigc/video-generation/video-synthesis",
    responses=task_problem_docs(400, 401, 403, 404, 413, 429, 503),
    openapi_extra=_BODY,
    summary="Submit a prompt as a DashScope task",
)
def create_task(
    gateway: WithGateway,
    tenant: WithCreator,
    request_id: WithRequestId,
    body: Annotated[Fields, Depends(read_fields)],
    x_dashscope_async: Annotated[str | None, Header(description="Must be `enable`.", examples=["enable"])] = None,
) -> NewTaskReply:
    """Sizes and lengths that the model can't make are snapped to the nearest it can."""
    if x_dashscope_async != "enable":
        raise Forbidden("Synchronous calls are not supported: send the header X-DashScope-Async: enable.")
    with counting_refusals(gateway):
        fields = requested_fields(body, extends_prompts=gateway.extension is not None)
        order = Order(
            parse(fields), tenant, webhook=None, body_fingerprint=body_fingerprint(fields), idempotency_key=None
        )
        record = accept(gateway, order).submitted.record
    # Clients expect a new task to be pending, even one that is answered from the cache.
    return NewTaskReply(output=NewTask(task_id=record.id, task_status="PENDING"), request_id=request_id)


@router.get(
    "/tasks/{task_id}",
    response_model_exclude_none=True,
    responses=task_problem_docs(401, 403, 503),
    summary="Look at a DashScope task",
)
def get_task(
    gateway: WithGateway, tenant: WithReader, request: Request, request_id: WithRequestId, task_id: str
) -> TaskReply:
    """Answers 200 with the status UNKNOWN for a task that is not there, as DashScope does."""
    try:
        record = gateway.store.get(task_id, tenant=tenant.name)
    except VideoNotFound:
        return TaskReply(output=Task(task_id=task_id, task_status="UNKNOWN"), request_id=request_id)
    link = gateway.links.link(record, variant="video", base_url=base_url_of(request), now=gateway.clock())
    return TaskReply(output=task_of(record, link), usage=usage_of(record), request_id=request_id)


@router.get(
    "/tasks",
    response_model_exclude_none=True,
    responses=task_problem_docs(400, 401, 403, 404, 503),
    summary="List DashScope tasks",
)
def list_tasks(
    gateway: WithGateway,
    tenant: WithReader,
    request_id: WithRequestId,
    page_no: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 1,
    page_size: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 10,
    status: TaskStatus | None = None,
    model_name: Annotated[str | None, Query(description="The model's id or an alias.")] = None,
) -> TaskListReply:
    """The newest first, of the tenant's newest thousand."""
    model_id = None if model_name is None else gateway.store.card(model_name).id
    found = [
        record
        for record in islice(_newest(gateway, tenant.name), MAX_LISTED)
        if status in (None, status_of(record.state)) and model_id in (None, record.request.model)
    ]
    start = (page_no - 1) * page_size
    return TaskListReply(
        data=[listed_task(record) for record in found[start : start + page_size]],
        page_no=page_no,
        page_size=page_size,
        total=len(found),
        total_page=-(-len(found) // page_size),
        request_id=request_id,
    )


@router.post(
    "/tasks/{task_id}/cancel",
    responses=task_problem_docs(401, 403, 404, 409, 503),
    summary="Cancel a DashScope task",
)
def cancel_task(gateway: WithGateway, tenant: WithCreator, request_id: WithRequestId, task_id: str) -> CancelReply:
    """Only while it is PENDING."""
    record = gateway.store.get(task_id, tenant=tenant.name)
    if record.state is not State.QUEUED:
        raise Conflict(f"The task can't be cancelled: it is {status_of(record.state)}, not PENDING.")
    gateway.queue.cancel(task_id, tenant=tenant.name)
    return CancelReply(request_id=request_id)


def _newest(gateway: Gateway, tenant: str) -> Iterator[VideoRecord]:
    after = None
    while True:
        page = gateway.store.list(tenant=tenant, after=after, limit=MAX_PAGE)
        yield from page.records
        if not page.has_more:
            return
        after = page.records[-1].id
