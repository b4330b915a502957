"""/files: what batches read and write. The openai SDK's `client.files` speaks to it."""

from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from service.api.audited import note_target
from service.api.auth import WithCreator, WithReader
from service.api.batch_resources import DeletedFile, FileList, FileObject, file_resource
from service.api.body_docs import inlined
from service.api.deps import WithGateway
from service.api.file_replies import begun
from service.api.problems import ResponseDocs, problem_docs
from service.api.uploads import ReceivedFile, received_file
from service.batches.pages import Order
from service.jobs.fields import Whole, validated

router = APIRouter(prefix="/files", tags=["batches"])

After = Annotated[str | None, Query(description="The last id of the page before.")]
LONGEST_SECONDS = 30 * 24 * 3600


class ExpiresAfter(BaseModel):
    model_config = ConfigDict(frozen=True)

    anchor: Literal["created_at"] = "created_at"
    seconds: Whole = Field(ge=3600, le=LONGEST_SECONDS)


class NewFile(BaseModel):
    """What stands in the form beside the file."""

    model_config = ConfigDict(frozen=True)

    purpose: Literal["batch"]
    expires_after: ExpiresAfter | None = None


def _form() -> dict[str, Any]:
    """OpenAPI text for a form that received_file reads."""
    schema = NewFile.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs")
    schema["properties"]["file"] = {"type": "string", "format": "binary", "description": "JSON lines, 200 MiB at most."}
    schema["properties"]["expires_after"] = inlined(ExpiresAfter.model_json_schema())
    schema["required"] = ["purpose", "file"]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


CONTENT_DOCS: ResponseDocs = {
    200: {"description": "The whole file.", "content": {"application/jsonl": {}}},
    **problem_docs(401, 403, 404, 503),
}


@router.post(
    "",
    responses=problem_docs(400, 401, 403, 413, 503),
    openapi_extra=_form(),
    summary="Upload a file",
)
def create_file(
    gateway: WithGateway, tenant: WithCreator, received: Annotated[ReceivedFile, Depends(received_file)]
) -> FileObject:
    """Its lines are looked at when a batch reads it."""
    asked = validated(NewFile, received.fields)
    seconds = gateway.settings.file_seconds if asked.expires_after is None else asked.expires_after.seconds
    upload = gateway.files.upload(received.content)
    file = gateway.files.create(upload, tenant=tenant.name, filename=received.name, seconds=seconds)
    note_target("file_id", file.id)
    return file_resource(file)


@router.get("", responses=problem_docs(400, 401, 403, 503), summary="List files")
def list_files(
    gateway: WithGateway,
    tenant: WithReader,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    order: Order = "desc",
) -> FileList:
    """Uploaded ones and those that batches wrote."""
    page = gateway.files.list(tenant=tenant.name, after=after, limit=limit, order=order)
    data = [file_resource(file) for file in page.files]
    return FileList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=page.has_more,
    )


@router.get("/{file_id}", responses=problem_docs(401, 403, 404, 503), summary="Look at a file")
def get_file(gateway: WithGateway, tenant: WithReader, file_id: str) -> FileObject:
    return file_resource(gateway.files.get(file_id, tenant=tenant.name))


@router.delete("/{file_id}", responses=problem_docs(401, 403, 404, 409, 503), summary="Delete a file")
def delete_file(gateway: WithGateway, tenant: WithCreator, file_id: str) -> DeletedFile:
    """Not one that a batch still reads: 409."""
    gateway.files.delete(file_id, tenant=tenant.name)
    return DeletedFile(id=file_id)


@router.get(
    "/{file_id}/content", response_class=StreamingResponse, responses=CONTENT_DOCS, summary="Download a file's content"
)
def get_file_content(gateway: WithGateway, tenant: WithReader, file_id: str) -> StreamingResponse:
    file = gateway.files.get(file_id, tenant=tenant.name)
    headers = {
        "Content-Length": str(file.bytes),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.filename)}",
        "Cache-Control": "private, no-cache",
    }
    return StreamingResponse(begun(gateway.files.content(file)), media_type="application/jsonl", headers=headers)
