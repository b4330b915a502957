"""/reviews: what the prompt filter or the frame check held, for holders of a key with the scope review."""

from typing import Annotated, Literal, get_args

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from service.api.auth import WithReviewer, caller_of
from service.api.bodies import Fields, read_fields, read_fields_if_any
from service.api.body_docs import body_docs
from service.api.content import Variant
from service.api.deps import WithGateway, gateway_in
from service.api.file_replies import FILE_DOCS, file_reply
from service.api.problems import problem_docs
from service.errors import ObjectNotFound, VideoNotReady
from service.jobs.fields import Text, validated
from service.jobs.record import ReviewStage, ReviewState
from service.jobs.reviews import Review
from service.links import variant_file

router = APIRouter(prefix="/reviews", tags=["reviews"])

LOCAL = "local"
"""Who decides where no key is needed."""

Reason = Annotated[Text, Field(max_length=500)]


class Approval(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: Reason = ""


class Rejection(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: Reason = Field(min_length=1, description="Told to whoever submitted it.")


class ShownDecision(BaseModel):
    decision: Literal["approved", "rejected"]
    by: str = Field(description='The id of an API key, "local", or "review time-out".')
    reason: str
    at: int = Field(description="Unix seconds.")


class ShownReview(BaseModel):
    """A video that a person looks at, before it is made or before anybody gets it."""

    id: str
    object: Literal["review"] = "review"
    stage: ReviewStage = Field(description="prompt: nothing is made yet. frames: it is made, and held.")
    state: ReviewState = Field(description="withdrawn: its videos ended before anybody decided.")
    tenant: str
    category: str = Field(description='What was seen in it, or "everything" where everything is looked at.')
    score: float | None = Field(None, description="Of its worst frame, 0 to 1; null where a prompt is looked at.")
    prompt: str | None = Field(None, description="Null once its record is gone.")
    negative_prompt: str | None = None
    model: str | None = None
    video_ids: list[str] = Field(description="The videos that wait for it.")
    files: list[Variant] = Field([], description="What /content shows while it is held.")
    created_at: int = Field(description="Unix seconds.")
    decided_at: int | None
    decisions: list[ShownDecision]


class ReviewList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ShownReview]
    has_more: bool
    first_id: str | None
    last_id: str | None


async def _whose(request: Request, tenant: WithReviewer) -> str | None:
    """The tenant whose reviews a caller sees; None, everybody's, for an administrator."""
    caller = await caller_of(gateway_in(request), request)
    return None if "admin" in caller.scopes else tenant.name


async def _who(request: Request) -> str:
    caller = await caller_of(gateway_in(request), request)
    return caller.key_id or LOCAL


Whose = Annotated[str | None, Depends(_whose)]
Who = Annotated[str, Depends(_who)]


@router.get("", responses=problem_docs(400, 401, 403, 503), summary="List reviews")
def list_reviews(
    gateway: WithGateway,
    whose: Whose,
    state: Annotated[Literal["pending", "decided"], Query()] = "pending",
    stage: Annotated[ReviewStage | None, Query(description="Only those of prompts, or of finished videos.")] = None,
    category: Annotated[str | None, Query(max_length=100, description="Only those of this category.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=100, description="The last id of the page before.")] = None,
) -> ReviewList:
    """Pending ones the oldest first, decided ones the latest first. With the scope admin: of all tenants."""
    found, has_more = gateway.reviews.list(
        tenant=whose, state=state, stage=stage, category=category, after=after, limit=limit
    )
    shown = list(map(_shown, found))
    first_id, last_id = (shown[0].id, shown[-1].id) if shown else (None, None)
    return ReviewList(data=shown, has_more=has_more, first_id=first_id, last_id=last_id)


@router.get("/{review_id}", responses=problem_docs(401, 403, 404, 503), summary="Look at a review")
def get_review(gateway: WithGateway, whose: Whose, review_id: str) -> ShownReview:
    return _shown(gateway.reviews.get(review_id, tenant=whose))


@router.get(
    "/{review_id}/content", response_class=StreamingResponse, responses=FILE_DOCS, summary="Look at what is held"
)
@router.head("/{review_id}/content", include_in_schema=False)
def get_review_content(
    gateway: WithGateway, whose: Whose, request: Request, review_id: str, variant: Variant = "video"
) -> Response:
    """The files of a review whose stage is frames, while it is pending. Understands Range as a video's /content."""
    review = gateway.reviews.get(review_id, tenant=whose)
    if review.asset is None:
        raise VideoNotReady(
            f"This review is {review.state} and has no file: only finished videos have one, while they are held.",
            param="id",
        )
    file = variant_file(review.asset, variant)
    if file is None:
        raise ObjectNotFound(f"This video has no {variant}.", param="variant")
    suffix = file.key.rpartition(".")[2]
    return file_reply(gateway, request, file, disposition=f'inline; filename="{review.id}.{suffix}"')


@router.post(
    "/{review_id}/approve",
    responses=problem_docs(400, 401, 403, 404, 409, 413, 503),
    openapi_extra=body_docs(Approval, example={"reason": "A museum's statue."}, is_required=False),
    summary="Approve",
)
def approve_review(
    gateway: WithGateway,
    whose: Whose,
    who: Who,
    review_id: str,
    fields: Annotated[Fields, Depends(read_fields_if_any)],
) -> ShownReview:
    """Its videos wait for a worker from now on, or are completed; where two must approve, after the second one."""
    asked = validated(Approval, fields)
    return _shown(gateway.reviews.approve(review_id, by=who, reason=asked.reason, tenant=whose))


@router.post(
    "/{review_id}/reject",
    responses=problem_docs(400, 401, 403, 404, 409, 413, 503),
    openapi_extra=body_docs(Rejection, example={"reason": "It shows a real person."}),
    summary="Reject",
)
def reject_review(
    gateway: WithGateway, whose: Whose, who: Who, review_id: str, fields: Annotated[Fields, Depends(read_fields)]
) -> ShownReview:
    """Its videos end as failed with the code rejected_by_review, and your reason. Files that were held are removed."""
    asked = validated(Rejection, fields)
    return _shown(gateway.reviews.reject(review_id, by=who, reason=asked.reason, tenant=whose))


def _shown(review: Review) -> ShownReview:
    request = None if review.payload is None else review.payload.request
    return ShownReview(
        id=review.id,
        stage=review.stage,
        state=review.state,
        tenant=review.tenant,
        category=review.category,
        score=review.score,
        prompt=None if request is None else request.prompt,
        negative_prompt=None if request is None else request.negative_prompt,
        model=None if request is None else request.model,
        video_ids=list(review.video_ids),
        files=[variant for variant in get_args(Variant) if variant_file(review.asset, variant) is not None],
        created_at=int(review.created_at),
        decided_at=None if review.decided_at is None else int(review.decided_at),
        decisions=[
            ShownDecision(
                decision="approved" if decision.approves else "rejected",
                by=decision.by,
                reason=decision.reason,
                at=int(decision.at),
            )
            for decision in review.decisions
        ],
    )
