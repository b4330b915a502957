"""For operators and orchestrators: is it alive, ready, healthy; what are its numbers.

Probes ask for no key anywhere: orchestrators have none, and the page looks before it knows one. The numbers tell
of all tenants together, so that where keys are needed they are for the scope admin alone.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from service.api.auth import SHOWN_KEY, tenant_with
from service.api.deps import WithGateway
from service.api.probes import Findings
from service.api.problems import ResponseDocs, problem_docs
from service.loopback import asks_for_keys

router = APIRouter(tags=["operations"])


class Liveness(BaseModel):
    status: Literal["ok"] = "ok"
    service: Literal["wanserve"] = "wanserve"


class Readiness(BaseModel):
    status: Literal["ok", "unavailable"]
    reasons: list[str] = Field([], description="What is missing, a sentence each.")


class Health(Readiness):
    live_workers: int = Field(0, description="Workers with a warm model.")
    models: list[str] = Field([], description="Models of live workers.")
    queue_depth: int | None = None
    running: int | None = None


NOT_READY: ResponseDocs = {503: {"model": Readiness, "description": "Not now; `reasons` says why."}}
NOT_HEALTHY: ResponseDocs = {503: {"model": Health, "description": "Not now; `reasons` says why."}}


@router.get("/liveness", summary="The process runs")
async def get_liveness() -> Liveness:
    return Liveness()


@router.get("/ready", responses=NOT_READY, summary="Redis and storage answer")
async def get_readiness(gateway: WithGateway, response: Response) -> Readiness:
    """For orchestrators: jobs are taken and wait while workers start. Looks at most once a second."""
    findings = await gateway.probes.look()
    response.status_code = 503 if findings.outages else 200
    return Readiness(status=_status(findings.outages), reasons=list(findings.outages))


@router.get("/health", responses=NOT_HEALTHY, summary="A request would be served now")
async def get_health(gateway: WithGateway, response: Response) -> Health:
    """Redis and storage answer and a worker with a warm model lives. Looks at most once a second."""
    health = _health(await gateway.probes.look())
    response.status_code = 200 if health.status == "ok" else 503
    return health


async def check_operator(gateway: WithGateway, request: Request, _shown: Annotated[object, SHOWN_KEY]) -> None:
    """Where keys are needed, one of the scope admin. Elsewhere Redis is not asked: its outage is a number too."""
    if asks_for_keys(gateway.settings):
        await tenant_with("admin", gateway, request)


@router.get(
    "/metrics",
    response_class=Response,
    dependencies=[Depends(check_operator)],
    responses={
        200: {"content": {"text/plain": {}}, "description": "Prometheus' text format."},
        **problem_docs(401, 403, 503),
    },
    summary="Numbers for Prometheus",
)
def get_metrics(gateway: WithGateway) -> Response:
    text = gateway.metrics.scrape(gateway.queue, gateway.store)
    return Response(text, media_type=gateway.metrics.content_type)


def _health(findings: Findings) -> Health:
    reasons, queue = list(findings.outages), findings.queue
    if queue is None:
        return Health(status="unavailable", reasons=reasons)
    if not queue.workers:
        reasons.append("No worker with a warm model is alive.")
    return Health(
        status=_status(reasons),
        reasons=reasons,
        live_workers=len(queue.workers),
        models=sorted({worker.model for worker in queue.workers}),
        queue_depth=queue.depth,
        running=queue.num_running,
    )


def _status(reasons: Sequence[str]) -> Literal["ok", "unavailable"]:
    return "unavailable" if reasons else "ok"
