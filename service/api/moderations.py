"""/moderations: the prompt filter by itself, in the shape of OpenAI's endpoint."""

import uuid
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from service.api.auth import WithCreator
from service.api.bodies import Fields, read_fields
from service.api.body_docs import body_docs
from service.api.deps import WithGateway
from service.api.problems import problem_docs
from service.jobs.fields import Text, validated
from service.moderation.categories import CATEGORIES
from service.moderation.filter import LONGEST_WRITTEN_OUT
from service.moderation.policy import Action, Policy, Scores, Verdict

router = APIRouter(tags=["moderations"])

MODEL = "wanserve-prompt-filter"
MAX_INPUTS = 32

Input = Annotated[Text, Field(min_length=1, max_length=LONGEST_WRITTEN_OUT)]


class ModerationRequest(BaseModel):
    model_config = ConfigDict(frozen=True)

    input: Input | Annotated[list[Input], Field(min_length=1, max_length=MAX_INPUTS)]
    model: str | None = Field(None, max_length=200, description="There is one; any name is taken.")


class ModerationResult(BaseModel):
    flagged: bool = Field(description="It would be refused, or held for review.")
    categories: dict[str, bool]
    category_scores: dict[str, float] = Field(description="0 to 1.")
    category_applied_input_types: dict[str, list[Literal["text"]]]
    action: Action = Field(description="What POST /v1/videos would do: allow, review or block.")


class Moderation(BaseModel):
    id: str
    model: str
    results: list[ModerationResult] = Field(description="One an input, in order.")


@router.post(
    "/moderations",
    responses=problem_docs(400, 401, 403, 413, 503),
    openapi_extra=body_docs(ModerationRequest, example={"input": "a red ball bouncing"}),
    summary="Ask the prompt filter",
)
def create_moderation(
    gateway: WithGateway, tenant: WithCreator, fields: Annotated[Fields, Depends(read_fields)]
) -> Moderation:
    """By your tenant's policy. Nothing is stored."""
    asked = validated(ModerationRequest, fields)
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    results = [_result(gateway.filter.scores(text), tenant.moderation) for text in texts]
    return Moderation(id=f"modr-{uuid.uuid4().hex}", model=MODEL, results=results)


def _result(scores: Scores, policy: Policy) -> ModerationResult:
    verdict: Verdict = policy.judge(scores)
    flagged = {category: policy.flags(category, scores.by_category[category]) for category in CATEGORIES}
    return ModerationResult(
        flagged=any(flagged.values()),
        categories=flagged,
        category_scores={category: round(score, 6) for category, score in scores.by_category.items()},
        category_applied_input_types={category: ["text"] for category in CATEGORIES},
        action=verdict.action,
    )
