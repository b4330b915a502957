"""The one shape of an error reply: {"error": {message, type, param, code}, "detail": message}."""

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from service.errors import InvalidRequest, NotFound, RangeNotSatisfiable, ServiceError

ResponseDocs = dict[int | str, dict[str, Any]]
"""OpenAPI text by status."""


class ErrorBody(BaseModel):
    message: str = Field(examples=["prompt is empty: say what to draw."])
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(None, description="The field at fault.", examples=["prompt"])
    code: str = Field(examples=["invalid_request"])


class Problem(BaseModel):
    """Every error reply, whatever its status."""

    error: ErrorBody
    detail: str = Field(description="The message again, for clients that look here.")


MEANINGS = {
    400: "The request is wrong; `error.param` names the field.",
    403: "A cross-site request, or a link that is not valid or too old.",
    404: "No such video, model or file.",
    409: "Not in this state of the video.",
    413: "The body is too large.",
    416: "The Range lies outside the file.",
    422: "The Idempotency-Key was used with another body.",
    503: "Not now: `Retry-After` says when to ask again.",
}


def problem_docs(*statuses: int) -> ResponseDocs:
    """The `responses` of a route that can end with these statuses."""
    return {status: {"model": Problem, "description": MEANINGS[status]} for status in statuses}


def problem_response(error: ServiceError) -> JSONResponse:
    """The reply for an error of ours."""
    return _response(
        error.http_status,
        ErrorBody(message=error.message, type=_type_of(error.http_status), param=error.param, code=error.code),
        headers=_headers_of(error),
    )


async def on_service_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)
    return problem_response(error)


async def on_validation_error(_request: Request, error: Exception) -> JSONResponse:
    """A query parameter or header of the wrong type."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    param = str(first["loc"][-1])
    return problem_response(InvalidRequest(f"{param}: {first['msg']}.", param=param))


async def on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """What the framework itself refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            return problem_response(NotFound(f"There is nothing at {request.url.path}; see /openapi.json."))
        case 405:
            message = f"{request.method} is not possible at {request.url.path}."
            body = ErrorBody(message=message, type=_type_of(405), code="method_not_allowed")
        case status:
            body = ErrorBody(message=str(error.detail), type=_type_of(status), code="http_error")
    return _response(error.status_code, body, headers=dict(error.headers or {}))


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
        case 403:
            return "permission_error"
        case 503:
            return "service_unavailable_error"
        case _ if status >= 500:
            return "server_error"
        case _:
            return "invalid_request_error"


def _headers_of(error: ServiceError) -> dict[str, str]:
    headers = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    # The openai SDK repeats 408, 409, 429 and 5xx unless this says otherwise.
    if error.retryable or error.http_status == 409 or error.http_status >= 500:
        headers["x-should-retry"] = "true" if error.retryable else "false"
    if isinstance(error, RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.size_bytes}"
    return headers
