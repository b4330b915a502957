"""A gateway's batches over HTTP, for the command line."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from service.server_client import OnBytes, ServerClient, quoted

ENDED = ("completed", "failed", "cancelled", "expired")


class Counts(BaseModel):
    total: int = 0
    completed: int = 0
    failed: int = 0


class SeenFault(BaseModel):
    code: str | None = None
    message: str = ""
    line: int | None = None


class SeenFaults(BaseModel):
    data: list[SeenFault] = []


class SeenBatch(BaseModel):
    """A batch as a server shows it; what it adds is kept."""

    model_config = ConfigDict(extra="allow")

    id: str
    status: str
    created_at: int
    input_file_id: str
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: SeenFaults | None = None
    request_counts: Counts = Counts()

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED


class SeenBatches(BaseModel):
    data: list[SeenBatch]
    has_more: bool = False


class _Uploaded(BaseModel):
    id: str


class BatchesClient(ServerClient):
    """Every method raises as ServerClient's."""

    def create(self, file: Path, *, metadata: Mapping[str, str]) -> SeenBatch:
        """Upload a file of requests, JSON lines, and begin. Raises OSError where it can't be read."""
        with file.open("rb") as content:
            uploaded = self.upload(_Uploaded, "/files", content, name=file.name, fields={"purpose": "batch"})
        fields: dict[str, object] = {"input_file_id": uploaded.id, "endpoint": "/v1/videos", "completion_window": "24h"}
        return self.ask(SeenBatch, "POST", "/batches", json=fields | ({"metadata": dict(metadata)} if metadata else {}))

    def get(self, batch_id: str) -> SeenBatch:
        return self.ask(SeenBatch, "GET", f"/batches/{quoted(batch_id)}")

    def list(self, *, limit: int, after: str | None) -> SeenBatches:
        given = {"limit": str(limit)} | ({} if after is None else {"after": after})
        return self.ask(SeenBatches, "GET", "/batches", params=given)

    def cancel(self, batch_id: str) -> SeenBatch:
        return self.ask(SeenBatch, "POST", f"/batches/{quoted(batch_id)}/cancel")

    def download(self, file_id: str, file: Path, *, on_bytes: OnBytes) -> None:
        """Raises OSError where the file can't be written."""
        self.fetch(f"/files/{quoted(file_id)}/content", file, on_bytes=on_bytes)
