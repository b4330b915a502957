"""/batches: many videos by one file. The openai SDK's `client.batches` speaks to it."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from service.api.audited import note_target
from service.api.auth import WithCreator, WithReader
from service.api.batch_resources import BatchList, BatchObject, batch_resource
from service.api.bodies import Fields, read_fields
from service.api.body_docs import body_docs
from service.api.deps import WithGateway
from service.api.files import After, ExpiresAfter
from service.api.problems import problem_docs
from service.errors import InvalidRequest
from service.jobs.fields import Text, validated
from service.logs import get_logger

HOUR_SECONDS = 3600

log = get_logger(__name__)
router = APIRouter(prefix="/batches", tags=["batches"])

MetadataName = Annotated[Text, Field(max_length=64)]
MetadataValue = Annotated[Text, Field(max_length=512)]


class NewBatch(BaseModel):
    model_config = ConfigDict(frozen=True)

    input_file_id: Text = Field(max_length=128)
    endpoint: Literal["/v1/videos"]
    completion_window: str = Field("24h", pattern=r"^[1-9]\d{0,2}h$", description="Hours: 24h.")
    metadata: dict[MetadataName, MetadataValue] | None = Field(None, max_length=16)
    output_expires_after: ExpiresAfter | None = None


@router.post(
    "",
    responses=problem_docs(400, 401, 403, 404, 413, 429, 503),
    openapi_extra=body_docs(NewBatch),
    summary="Create a batch",
)
def create_batch(
    gateway: WithGateway, tenant: WithCreator, fields: Annotated[Fields, Depends(read_fields)]
) -> BatchObject:
    """Each line of the file is `{"custom_id", "method": "POST", "url": "/v1/videos", "body"}`, 50 000 at most.

    What is wrong with one line stands in the error file and stops no other.
    """
    asked = validated(NewBatch, fields)
    expires_after = asked.output_expires_after
    batch = gateway.batches.create(
        tenant=tenant.name,
        input_file_id=asked.input_file_id,
        completion_window=asked.completion_window,
        window_seconds=_window_seconds(asked.completion_window, longest=gateway.settings.retention_seconds),
        metadata=asked.metadata or {},
        keep_seconds=gateway.settings.file_seconds if expires_after is None else expires_after.seconds,
    )
    note_target("batch_id", batch.id)
    log.info("batch_created", tenant=tenant.name, batch_id=batch.id, input_bytes=batch.input_bytes)
    return batch_resource(batch)


@router.get("", responses=problem_docs(400, 401, 403, 503), summary="List batches")
def list_batches(
    gateway: WithGateway, tenant: WithReader, after: After = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> BatchList:
    """The newest first."""
    page = gateway.batches.list(tenant=tenant.name, after=after, limit=limit)
    data = [batch_resource(batch) for batch in page.batches]
    return BatchList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=page.has_more,
    )


@router.get("/{batch_id}", responses=problem_docs(401, 403, 404, 503), summary="Look at a batch")
def get_batch(gateway: WithGateway, tenant: WithReader, batch_id: str) -> BatchObject:
    return batch_resource(gateway.batches.get(batch_id, tenant=tenant.name))


@router.post("/{batch_id}/cancel", responses=problem_docs(401, 403, 404, 409, 503), summary="Cancel a batch")
def cancel_batch(gateway: WithGateway, tenant: WithCreator, batch_id: str) -> BatchObject:
    """Its videos that wait or run are cancelled; what was made stays, and stands in the output file."""
    return batch_resource(gateway.batches.cancel(batch_id, tenant=tenant.name))


def _window_seconds(window: str, *, longest: int) -> int:
    """Raises InvalidRequest for one in which the first videos would expire before the last are made."""
    seconds = int(window.removesuffix("h")) * HOUR_SECONDS
    if seconds > longest:
        raise InvalidRequest(
            f"completion_window: videos are kept for {longest // HOUR_SECONDS} h here, and no batch may take longer.",
            param="completion_window",
        )
    return seconds
