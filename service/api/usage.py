"""/usage: what a tenant used, by day, and what is left of its budget."""

import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from service.api.auth import WithReader
from service.api.deps import WithGateway
from service.api.problems import problem_docs
from service.usage import MAX_DAYS, DayUsage

router = APIRouter(tags=["usage"])


class ShownDay(BaseModel):
    day: datetime.date = Field(description="UTC.")
    videos_queued: int = Field(description="That a job was made for.")
    videos_joined: int = Field(description="That followed an equal job; they cost nothing.")
    videos_cached: int = Field(description="That were answered at once; they cost nothing.")
    gpu_seconds: float = Field(description="Of jobs that have ended.")
    reserved_gpu_seconds: float = Field(description="Estimated, of jobs that wait or run.")


class UsageReport(BaseModel):
    object: Literal["usage"] = "usage"
    tenant: str
    daily_gpu_seconds: float | None = Field(description="The budget; null: there is none.")
    gpu_seconds_left: float | None = Field(description="Of today.")
    data: list[ShownDay] = Field(description="Today first.")


@router.get("/usage", responses=problem_docs(400, 401, 403, 429, 503), summary="Look at your usage")
def get_usage(
    gateway: WithGateway, tenant: WithReader, days: Annotated[int, Query(ge=1, le=MAX_DAYS)] = 30
) -> UsageReport:
    """A job counts on the day (UTC) of its submission."""
    used = gateway.usage.days(tenant.name, num_days=days)
    budget = tenant.daily_gpu_seconds
    return UsageReport(
        tenant=tenant.name,
        daily_gpu_seconds=budget,
        gpu_seconds_left=None if budget is None else max(0.0, budget - used[0].total_gpu_seconds),
        data=list(map(_shown, used)),
    )


def _shown(used: DayUsage) -> ShownDay:
    return ShownDay(
        day=used.day,
        videos_queued=used.queued,
        videos_joined=used.joined,
        videos_cached=used.cached,
        gpu_seconds=used.gpu_seconds,
        reserved_gpu_seconds=used.reserved_gpu_seconds,
    )
