"""What clients see of webhooks: the OpenAI SDK's WebhookEndpoint with our extensions beside it."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from service.webhooks.deliveries import Attempt, Delivery, DeliveryPage
from service.webhooks.endpoints import Endpoint
from service.webhooks.secret import hint_of


class WebhookEndpoint(BaseModel):
    """A receiver of all of a tenant's events."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: int = Field(description="Unix seconds. Older events are not sent to it.")
    updated_at: int
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str
    status: Literal["enabled", "disabled"]
    disabled_reason: str | None = Field(None, description="Set where its own answer, 410, disabled it.")


class WebhookEndpointWithSecret(WebhookEndpoint):
    signing_secret: str = Field(description="Shown here, and never again.")


class WebhookEndpointList(BaseModel):
    object: Literal["list"] = "list"
    data: list[WebhookEndpoint]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedWebhookEndpoint(BaseModel):
    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: Literal[True] = True


class WebhookTestResult(BaseModel):
    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    success: Literal[True] = Field(True, description="The receiver replied; `status_code` says how.")
    status_code: int


class WebhookEventTypes(BaseModel):
    object: Literal["list"] = "list"
    data: list[str]


class WebhookAttempt(BaseModel):
    at: int = Field(description="Unix seconds.")
    duration_seconds: float
    status_code: int | None = Field(None, description="Null when there was no reply.")
    error: str | None = None


class WebhookDelivery(BaseModel):
    """An event on its way to one receiver."""

    id: str
    object: Literal["webhook_delivery"] = "webhook_delivery"
    event_id: str = Field(description="The webhook-id of every attempt.")
    event_type: str
    video_id: str
    status: Literal["pending", "delivered", "dead", "dropped"]
    reason: str | None = Field(None, description="Why it is dead or dropped.")
    created_at: int
    next_attempt_at: int | None = None
    attempts: list[WebhookAttempt] = Field([], description="The last twenty, the newest last.")


class WebhookDeliveryList(BaseModel):
    object: Literal["list"] = "list"
    data: list[WebhookDelivery]
    first_id: str | None
    last_id: str | None
    has_more: bool


SAMPLE: dict[str, Any] = {
    "id": "video_test",
    "created_at": 1795000000,
    "progress": 100,
    "model": "test",
    "prompt": "a test event: there is no such video",
    "seconds": "2",
    "size": "256x256",
    "width": 256,
    "height": 256,
    "native_size": "64x64",
    "num_frames": 17,
    "fps": 8,
    "seed": 7,
    "negative_prompt": "",
    "num_inference_steps": 20,
    "guidance_scale": 4.0,
    "guidance_scale_2": 4.0,
    "flow_shift": 3.0,
}
"""The video of a test event, but for what its type decides."""


def endpoint_resource(endpoint: Endpoint) -> WebhookEndpoint:
    return WebhookEndpoint(**_fields_of(endpoint))


def endpoint_with_secret(endpoint: Endpoint) -> WebhookEndpointWithSecret:
    """For the two replies that show it."""
    return WebhookEndpointWithSecret(**_fields_of(endpoint), signing_secret=endpoint.secret)


def delivery_resource(delivery: Delivery) -> WebhookDelivery:
    return WebhookDelivery(
        id=delivery.id,
        event_id=delivery.event_id,
        event_type=delivery.type,
        video_id=delivery.video_id,
        status=delivery.state.value,
        reason=delivery.reason,
        created_at=int(delivery.created_at),
        next_attempt_at=None if delivery.next_attempt_at is None else int(delivery.next_attempt_at),
        attempts=[_attempt(attempt) for attempt in delivery.attempts],
    )


def delivery_list(page: DeliveryPage) -> WebhookDeliveryList:
    data = [delivery_resource(delivery) for delivery in page.deliveries]
    return WebhookDeliveryList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=page.has_more,
    )


def _fields_of(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "created_at": int(endpoint.created_at),
        "updated_at": int(endpoint.updated_at),
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": list(endpoint.event_types),
        "signing_secret_hint": hint_of(endpoint.secret),
        "status": endpoint.status,
        "disabled_reason": endpoint.disabled_reason,
    }


def _attempt(attempt: Attempt) -> WebhookAttempt:
    return WebhookAttempt(
        at=int(attempt.at),
        duration_seconds=attempt.duration_seconds,
        status_code=attempt.status,
        error=attempt.error,
    )
