"""From a POST to a queued video: made what a model can make, moderated, submitted. Knows no HTTP."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from starlette.concurrency import run_in_threadpool
from structlog.contextvars import get_contextvars

from service.api.audited import caller_key_id, note_prompts, note_target
from service.api.deps import Gateway
from service.errors import InvalidRequest, ModelNotFound, ModerationBlocked, NoModel, ServiceError
from service.jobs.card import ModelCard
from service.jobs.fleet import Fleet, FleetChanged
from service.jobs.record import FilterVerdict, Parent, Webhook, new_asset_id, new_job_id, new_video_id
from service.jobs.request import RequestedVideo, ResolvedVideo, resolve
from service.jobs.submission import Submission, Submitted
from service.jobs.visible_label import visible_label
from service.logs import get_logger
from service.moderation.policy import ALLOWED, Verdict
from service.tenants import Tenant
from service.tracing import current_traceparent

EVERYTHING = "everything"
"""Why a video is reviewed where all are."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Order:
    """A request as it came, and whose it is."""

    asked: RequestedVideo
    tenant: Tenant
    webhook: Webhook | None
    body_fingerprint: str
    idempotency_key: str | None
    remixed_from_video_id: str | None = None
    parent: Parent | None = None
    """The original's file, where it is finished."""

    original_prompt: str | None = None
    """The caller's own, where `asked` has an extended one."""

    video_id: str = field(default_factory=new_video_id)
    job_id: str = field(default_factory=new_job_id)
    asset_id: str = field(default_factory=new_asset_id)


@dataclass(frozen=True, slots=True)
class Accepted:
    submitted: Submitted
    resolved: ResolvedVideo
    fleet: Fleet
    """For which it was resolved."""

    verdict: Verdict


@contextmanager
def counting_refusals(gateway: Gateway) -> Iterator[None]:
    """Around all that can refuse a request, from its parsing on."""
    try:
        yield
    except ServiceError as e:
        gateway.metrics.refused.labels(e.code).inc()
        raise


def accept(gateway: Gateway, order: Order) -> Accepted:
    """One question to Redis: the fleet seen last will do for as long as the queue finds it unchanged.

    Raises what ends a request: InvalidRequest, ModelNotFound, Unavailable and whatever JobQueue.submit() does.
    """
    note_prompts({"prompt": order.asked.prompt, "negative_prompt": order.asked.negative_prompt or ""})
    try:
        accepted = _accepted_richer(gateway, order) or _accepted(gateway, order)
    except ModerationBlocked as e:
        gateway.metrics.verdicts.labels(e.category, "block").inc()
        raise
    return _noted(gateway, accepted)


async def accept_soon(gateway: Gateway, order: Order) -> Accepted:
    """As accept(), on the event loop where all that it needs is known; else on a thread, as it may take its time."""
    note_prompts({"prompt": order.asked.prompt, "negative_prompt": order.asked.negative_prompt or ""})
    accepted = await _accepted_at_once(gateway, order)
    return await run_in_threadpool(accept, gateway, order) if accepted is None else _noted(gateway, accepted)


async def _accepted_at_once(gateway: Gateway, order: Order) -> Accepted | None:
    """None where something must be looked up or read first, and of what no model takes: accept() says why."""
    fleet, asked = gateway.store.last_fleet, order.asked
    if fleet is None or asked.extend_prompt:
        return None
    try:
        card, resolved = _resolved(gateway, order, fleet)
        request = resolved.request
        verdict = gateway.filter.check_remembered(request.prompt, request.negative_prompt, order.tenant.moderation)
    except ServiceError:
        return None
    if verdict is None:
        return None
    try:
        submitted = await gateway.quick.submit(_submission(order, resolved, card, verdict), fleet=fleet)
    except FleetChanged:
        return None
    except asyncio.CancelledError:
        # The gateway ends, and the queue may have it: the audit log names what to look for.
        note_target("video_id", order.video_id)
        raise
    return None if submitted is None else Accepted(submitted, resolved, fleet, verdict)


def _accepted_richer(gateway: Gateway, order: Order) -> Accepted | None:
    """With an extended prompt, where one is asked for and can be had; both prompts are moderated."""
    asked = order.asked
    if not asked.extend_prompt:
        return None
    if gateway.extension is None:
        raise InvalidRequest(
            "extend_prompt is not set up here: leave it out, or have WANSERVE_PROMPT_EXTENSION_URL set.",
            param="extend_prompt",
        )
    # Nothing that is refused here goes to a third party.
    gateway.filter.check(asked.prompt, asked.negative_prompt or "", order.tenant.moderation)
    extended = gateway.extension.extend(asked.prompt) if asked.prompt.strip() else None
    if extended is None:
        return None
    richer = replace(order, asked=asked.model_copy(update={"prompt": extended}), original_prompt=asked.prompt)
    try:
        return _accepted(gateway, richer)
    except InvalidRequest as e:
        if e.param != "prompt":
            raise
        log.warning("prompt_not_extended", reason=e.message)
        return None


def _accepted(gateway: Gateway, order: Order) -> Accepted:
    last = gateway.store.last_fleet
    if last is not None:
        # What it does not take, a newer one may.
        with suppress(FleetChanged, InvalidRequest, ModelNotFound, NoModel):
            return _submit(gateway, order, last, is_fresh=False)
    return _submit(gateway, order, gateway.store.fleet(), is_fresh=True)


def _submit(gateway: Gateway, order: Order, fleet: Fleet, *, is_fresh: bool) -> Accepted:
    card, resolved = _resolved(gateway, order, fleet)
    request, policy = resolved.request, order.tenant.moderation
    verdict = gateway.filter.check(request.prompt, request.negative_prompt, policy)
    submission = _submission(order, resolved, card, verdict)
    submitted = gateway.queue.submit(submission, fleet=None if is_fresh else fleet)
    return Accepted(submitted, resolved, fleet, verdict)


def _resolved(gateway: Gateway, order: Order, fleet: Fleet) -> tuple[ModelCard, ResolvedVideo]:
    card = fleet.card(order.asked.model)
    label = visible_label(order.asked.visible_label, order.tenant.label, rule=gateway.settings.visible_label)
    return card, resolve(order.asked, card, label=label)


def _submission(order: Order, resolved: ResolvedVideo, card: ModelCard, verdict: Verdict) -> Submission:
    asked, request = order.asked, resolved.request
    return Submission(
        video_id=order.video_id,
        job_id=order.job_id,
        asset_id=order.asset_id,
        request=request,
        fingerprint=card.fingerprint,
        tenant=order.tenant.name,
        weight=order.tenant.weight,
        max_queued_by_tenant=order.tenant.max_queued,
        max_active_by_tenant=order.tenant.max_active,
        daily_gpu_seconds_of_tenant=order.tenant.daily_gpu_seconds,
        review=None if verdict == ALLOWED else _seen(verdict),
        filter=_recorded(verdict),
        frames=order.tenant.moderation.frames,
        idempotency_key=order.idempotency_key,
        body_fingerprint=order.body_fingerprint,
        ignored=resolved.ignored,
        metadata=asked.metadata,
        file_name=asked.file_name,
        webhook=order.webhook,
        quality=asked.quality,
        remixed_from_video_id=order.remixed_from_video_id,
        parent=order.parent,
        original_prompt=order.original_prompt,
        key_id=caller_key_id(),
        request_id=get_contextvars().get("request_id"),
        traceparent=current_traceparent(),
        expected_seconds=card.estimated_seconds(
            width=request.width,
            height=request.height,
            num_frames=request.num_frames,
            num_inference_steps=request.num_inference_steps,
            rows_per_step=request.rows_per_step,
        ),
        priority=asked.priority,
        deadline_seconds=asked.deadline_seconds,
        uses_cache=asked.cache == "use",
    )


def _recorded(verdict: Verdict) -> FilterVerdict:
    assert verdict.action != "block"
    scores = {category: round(score, 3) for category, score in verdict.scores.items()}
    return FilterVerdict(
        action=verdict.action,
        category=verdict.category,
        scores={category: score for category, score in scores.items() if score},
    )


def _seen(verdict: Verdict) -> str:
    """As the metrics call it."""
    if verdict == ALLOWED:
        return "none"
    return verdict.category or EVERYTHING


def _noted(gateway: Gateway, accepted: Accepted) -> Accepted:
    gateway.metrics.verdicts.labels(_seen(accepted.verdict), accepted.verdict.action).inc()
    note_target("video_id", accepted.submitted.record.id)
    _note(gateway, accepted.submitted)
    return accepted


def _note(gateway: Gateway, submitted: Submitted) -> None:
    gateway.metrics.submitted.labels(submitted.kind.value).inc()
    request = submitted.record.request
    log.info(
        "video_submitted",
        kind=submitted.kind.value,
        tenant=submitted.record.tenant,
        video_id=submitted.record.id,
        job_id=submitted.record.job_id,
        size=f"{request.width}x{request.height}",
        num_frames=request.num_frames,
        num_inference_steps=request.num_inference_steps,
    )
