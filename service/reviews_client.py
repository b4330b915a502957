"""A gateway's review desk over HTTP, for the command line."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from service.server_client import OnBytes, ServerClient, quoted


class SeenDecision(BaseModel):
    decision: str
    by: str
    reason: str = ""
    at: int


class SeenReview(BaseModel):
    """A review as a server shows it; what it adds is kept."""

    model_config = ConfigDict(extra="allow")

    id: str
    stage: str
    state: str
    tenant: str
    category: str
    score: float | None = None
    prompt: str | None = None
    video_ids: list[str] = []
    files: list[str] = []
    created_at: int
    decisions: list[SeenDecision] = []


class SeenReviews(BaseModel):
    data: list[SeenReview]
    has_more: bool = False


class ReviewsClient(ServerClient):
    """Every method raises as ServerClient's."""

    def list(self, *, limit: int, **given: str | None) -> SeenReviews:
        """given: state, stage, category and after; None: not asked for."""
        params = {"limit": str(limit)} | {name: value for name, value in given.items() if value is not None}
        return self.ask(SeenReviews, "GET", "/reviews", params=params)

    def get(self, review_id: str) -> SeenReview:
        return self.ask(SeenReview, "GET", f"/reviews/{quoted(review_id)}")

    def decide(self, review_id: str, decision: str, *, reason: str) -> SeenReview:
        """decision: approve or reject."""
        return self.ask(SeenReview, "POST", f"/reviews/{quoted(review_id)}/{decision}", json={"reason": reason})

    def download(self, review_id: str, file: Path, *, on_bytes: OnBytes) -> None:
        """The video that is held. Raises OSError where the file can't be written."""
        self.fetch(f"/reviews/{quoted(review_id)}/content", file, on_bytes=on_bytes)
