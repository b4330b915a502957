"""A gateway's videos over HTTP, for the command line. Reads what any server of the OpenAI Videos shape sends."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from service.server_client import OnBytes, ServerClient, quoted

Variant = Literal["video", "thumbnail", "spritesheet"]


class SeenError(BaseModel):
    code: str | None = None
    message: str = ""


class Snapped(BaseModel):
    requested: Any
    used: Any


class SeenReview(BaseModel):
    state: str


class SeenVideo(BaseModel):
    """A video as a server shows it. What only wanserve sends may be missing; what it adds is kept."""

    model_config = ConfigDict(extra="allow")

    id: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    created_at: int
    progress: float = 0
    model: str = ""
    prompt: str | None = None
    size: str = ""
    seconds: str = ""
    error: SeenError | None = None
    stage: str | None = None
    queue_position: int | None = None
    eta_seconds: float | None = None
    review: SeenReview | None = None
    adjusted: dict[str, Snapped] = {}

    @property
    def is_held(self) -> bool:
        """A reviewer looks at it first."""
        return self.review is not None and self.review.state == "pending"

    @property
    def has_ended(self) -> bool:
        return self.status in ("completed", "failed")


class SeenPage(BaseModel):
    data: list[SeenVideo]
    has_more: bool = False


class _Deleted(BaseModel):
    id: str


class VideosClient(ServerClient):
    """Every method raises as ServerClient's."""

    def create(self, fields: Mapping[str, Any]) -> SeenVideo:
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        return self.ask(SeenVideo, "POST", "/videos", json=dict(fields), headers=headers)

    def get(self, video_id: str) -> SeenVideo:
        return self.ask(SeenVideo, "GET", f"/videos/{quoted(video_id)}")

    def list(self, *, limit: int, after: str | None, order: str) -> SeenPage:
        given = {"limit": str(limit), "order": order} | ({} if after is None else {"after": after})
        return self.ask(SeenPage, "GET", "/videos", params=given)

    def delete(self, video_id: str) -> None:
        self.ask(_Deleted, "DELETE", f"/videos/{quoted(video_id)}")

    def download(self, video_id: str, file: Path, *, variant: Variant, on_bytes: OnBytes) -> None:
        """Raises OSError where the file can't be written."""
        self.fetch(f"/videos/{quoted(video_id)}/content", file, params={"variant": variant}, on_bytes=on_bytes)
