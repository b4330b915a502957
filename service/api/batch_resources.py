"""What clients see of files and batches: the shapes of the OpenAI SDK."""

from typing import Literal

from pydantic import BaseModel, Field

from service.batches.batch import Batch, BatchError
from service.batches.files import File


class FileObject(BaseModel):
    """An uploaded file, or one that a batch wrote."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int = Field(description="Unix seconds.")
    expires_at: int = Field(description="When it is removed; later where a batch still reads it.")
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"] = "processed"


class FileList(BaseModel):
    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedFile(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class ShownBatchErrors(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchError]


class RequestCounts(BaseModel):
    """Requests by how they ended; the files hold as many lines."""

    total: int
    completed: int
    failed: int


class BatchObject(BaseModel):
    """Many requests in one file."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: ShownBatchErrors | None = Field(None, description="Why the batch as a whole failed.")
    input_file_id: str
    completion_window: str
    status: Literal[
        "validating", "in_progress", "finalizing", "completed", "failed", "cancelling", "cancelled", "expired"
    ]
    output_file_id: str | None = Field(None, description="A line for each video that was made.")
    error_file_id: str | None = Field(None, description="A line for each request that brought none.")
    created_at: int = Field(description="Unix seconds.")
    in_progress_at: int | None = None
    expires_at: int = Field(description="The end of its completion window.")
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts
    metadata: dict[str, str] = {}


class BatchList(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


def file_resource(file: File) -> FileObject:
    return FileObject(
        id=file.id,
        bytes=file.bytes,
        created_at=int(file.created_at),
        expires_at=int(file.expires_at),
        filename=file.filename,
        purpose=file.purpose,
    )


def batch_resource(batch: Batch) -> BatchObject:
    return BatchObject(
        id=batch.id,
        endpoint=batch.endpoint,
        errors=ShownBatchErrors(data=list(batch.errors)) if batch.errors else None,
        input_file_id=batch.input_file_id,
        completion_window=batch.completion_window,
        status=batch.status.value,
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
        created_at=int(batch.created_at),
        in_progress_at=_whole(batch.in_progress_at),
        expires_at=int(batch.expires_at),
        finalizing_at=_whole(batch.finalizing_at),
        completed_at=_whole(batch.completed_at),
        failed_at=_whole(batch.failed_at),
        expired_at=_whole(batch.expired_at),
        cancelling_at=_whole(batch.cancelling_at),
        cancelled_at=_whole(batch.cancelled_at),
        request_counts=RequestCounts(total=batch.total, completed=batch.completed, failed=batch.failed),
        metadata=batch.metadata,
    )


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)
