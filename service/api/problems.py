"""The one shape of an error reply: {"error": {message, type, param, code}, "detail": message}."""

from collections.abc import Collection
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from service.api.audited import note_code, note_target
from service.batches.batch import Refusal
from service.errors import (
    InvalidApiKey,
    InvalidRequest,
    ModerationBlocked,
    NotFound,
    RangeNotSatisfiable,
    ServiceError,
    Unauthorized,
)

ResponseDocs = dict[int | str, dict[str, Any]]
"""OpenAPI text by status."""


class ErrorBody(BaseModel):
    message: str = Field(examples=["prompt is empty: say what to draw."])
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(None, description="The field at fault.", examples=["prompt"])
    code: str = Field(examples=["invalid_request"])
    category: str | None = Field(
        None,
        description="Only with moderation_blocked: what was asked for.",
        exclude_if=lambda category: category is None,
    )


class Problem(BaseModel):
    """Every error reply, whatever its status."""

    error: ErrorBody
    detail: str = Field(description="The message again, for clients that look here.")


MEANINGS = {
    400: "The request is wrong; `error.param` names the field.",
    401: "No API key came where one is needed, or one that is not known here or was revoked.",
    403: "A key without the scope for this, a cross-site request, or a link that is not valid or too old.",
    404: "No such video, model, file, batch, review, webhook endpoint or delivery.",
    409: "Not in this state of the video, file, batch or review.",
    413: "The body is too large.",
    416: "The Range lies outside the file.",
    422: "The Idempotency-Key was used with another body.",
    429: "Too much at once: `Retry-After` says when to ask again.",
    500: "A fault of ours, or a record that was damaged; the server's log has details under x-request-id.",
    502: "The webhook's receiver did not reply.",
    503: "Not now: `Retry-After` says when to ask again.",
}


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def problem_docs(*statuses: int) -> ResponseDocs:
    """The `responses` of a route that can end with these statuses."""
    return {status: {"model": Problem, "description": MEANINGS[status]} for status in with_limits(statuses)}


def with_limits(statuses: Collection[int]) -> list[int]:
    """Wherever a key is looked at, it may have asked too often."""
    return sorted({*statuses, *([429] if 401 in statuses else [])})


def problem_response(error: ServiceError) -> JSONResponse:
    """The reply for an error of ours."""
    return _response(
        error.http_status,
        ErrorBody(
            message=error.message,
            type=_type_of(error.http_status),
            param=error.param,
            code=error.code,
            category=error.category if isinstance(error, ModerationBlocked) else None,
        ),
        headers=error_headers(error),
    )


def problem_of(refusal: Refusal) -> Problem:
    """The body that a request of a batch would have been answered with alone."""
    kind = _type_of(refusal.http_status)
    error = ErrorBody(
        message=refusal.message, type=kind, param=refusal.param, code=refusal.code, category=refusal.category
    )
    return Problem(error=error, detail=refusal.message)


async def on_service_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)
    note_code(error.code)
    if isinstance(error, ModerationBlocked):
        note_target("category", error.category)
    return problem_response(error)


async def on_validation_error(_request: Request, error: Exception) -> JSONResponse:
    """A query parameter or header of the wrong type."""
    assert isinstance(error, RequestValidationError)
    note_code(InvalidRequest.code)
    return problem_response(invalid_query(error))


def invalid_query(error: RequestValidationError) -> InvalidRequest:
    """The first thing wrong, as an error of ours."""
    first = error.errors()[0]
    param = str(first["loc"][-1])
    return InvalidRequest(f"{param}: {first['msg']}.", param=param)


async def on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """What the framework itself refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            return problem_response(NotFound(f"There is nothing at {request.url.path}; see /openapi.json."))
        case 405:
            message = f"{request.method} is not possible at {request.url.path}."
            body = ErrorBody(message=message, type=_type_of(405), code="method_not_allowed")
            return _response(405, body, headers={"Allow": _methods_at(request)})
        case status:
            body = ErrorBody(message=str(error.detail), type=_type_of(status), code="http_error")
    return _response(error.status_code, body, headers=dict(error.headers or {}))


def _methods_at(request: Request) -> str:
    """All that the path knows: the framework names those of the first route that it fits."""
    app = request.app
    # The last word of /v1/videos/edits might be read as a video's id.
    literal = app.openapi()["paths"].get(request.url.path, {})
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    fitting = [
        method for method, scope in scopes.items() if any(route.matches(scope)[0] is Match.FULL for route in app.routes)
    ]
    return ", ".join(method for method in fitting if not literal or method.lower() in literal)


async def on_crash(request: Request, _error: Exception) -> JSONResponse:
    """A fault of ours. The server logs the traceback; the reply carries only the id to look for."""
    request_id = request.scope.get("request_id", "unknown")
    message = f"The server failed on this request; its log has details under x-request-id {request_id}."
    body = ErrorBody(message=message, type=_type_of(500), code="internal_error")
    return _response(500, body, headers={"x-request-id": request_id})


def _response(status: int, body: ErrorBody, *, headers: dict[str, str]) -> JSONResponse:
    problem = Problem(error=body, detail=body.message)
    return JSONResponse(problem.model_dump(), status_code=status, headers=headers)


def _type_of(status: int) -> str:
    match status:
        case 401:
            return "authentication_error"
        case 403:
            return "permission_error"
        case 429:
            return "rate_limit_error"
        case 503:
            return "service_unavailable_error"
        case _ if status >= 500:
            return "server_error"
        case _:
            return "invalid_request_error"


def error_headers(error: ServiceError) -> dict[str, str]:
    """What goes beside the body: when and whether to ask again, and how."""
    headers = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    # The openai SDK repeats 408, 409, 429 and 5xx unless this says otherwise.
    if error.retryable or error.http_status == 409 or error.http_status >= 500:
        headers["x-should-retry"] = "true" if error.retryable else "false"
    match error:
        case RangeNotSatisfiable():
            headers["Content-Range"] = f"bytes */{error.size_bytes}"
        case InvalidApiKey():
            headers["WWW-Authenticate"] = 'Bearer realm="wanserve", error="invalid_token"'
        case Unauthorized():
            headers["WWW-Authenticate"] = 'Bearer realm="wanserve"'
    return headers
