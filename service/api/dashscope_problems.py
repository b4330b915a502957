"""Errors as DashScope's clients read them: {"code", "message", "request_id"}."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from service.api.audited import note_code
from service.api.problems import MEANINGS, ResponseDocs, error_headers, invalid_query, with_limits
from service.errors import (
    BudgetExceeded,
    Conflict,
    Forbidden,
    InvalidRequest,
    ModelNotFound,
    ModerationBlocked,
    NotFound,
    ServiceError,
    TenantQueueFull,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)


class TaskProblem(BaseModel):
    """Every error reply of the DashScope adapter."""

    code: str = Field(examples=["InvalidParameter"])
    message: str = Field(examples=["prompt is empty: say what to draw."])
    request_id: str


class TaskRoute(APIRoute):
    """A route whose errors have DashScope's shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answer_in_shape(request: Request) -> Response:
            try:
                return await answer(request)
            except RequestValidationError as e:
                return _response(request, invalid_query(e))
            except ServiceError as e:
                return _response(request, e)

        return answer_in_shape


def task_problem_docs(*statuses: int) -> ResponseDocs:
    """The `responses` of a route that can end with these statuses."""
    return {status: {"model": TaskProblem, "description": MEANINGS[status]} for status in with_limits(statuses)}


def code_of(error: ServiceError) -> str:
    """DashScope's word for it."""
    match error:
        case ModerationBlocked():
            return "DataInspectionFailed"
        case InvalidRequest():
            return "InvalidParameter"
        case Unauthorized():
            return "InvalidApiKey"
        case Forbidden():
            return "AccessDenied"
        case ModelNotFound():
            return "ModelNotFound"
        case NotFound():
            return "NotFound"
        case Conflict():
            return "UnsupportedOperation"
        case TenantQueueFull() | TooManyRequests():
            return "Throttling"
        case BudgetExceeded():
            return "Throttling.AllocationQuota"
        case Unavailable():
            return "ServiceUnavailable"
        case _:
            return "InternalError"


def _response(request: Request, error: ServiceError) -> JSONResponse:
    note_code(error.code)
    problem = TaskProblem(code=code_of(error), message=error.message, request_id=request.scope["request_id"])
    return JSONResponse(problem.model_dump(), status_code=error.http_status, headers=error_headers(error))
