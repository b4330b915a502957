"""/webhook_endpoints, and the deliveries of endpoints and videos. The openai SDK's `client.webhooks` speaks to it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from service.api.audited import note_target
from service.api.auth import WithCreator, WithReader
from service.api.bodies import Fields, read_fields, read_fields_if_any
from service.api.body_docs import body_docs
from service.api.deps import WithGateway
from service.api.problems import problem_docs
from service.api.resources import Video
from service.api.webhook_resources import (
    SAMPLE,
    DeletedWebhookEndpoint,
    WebhookDelivery,
    WebhookDeliveryList,
    WebhookEndpoint,
    WebhookEndpointList,
    WebhookEndpointWithSecret,
    WebhookEventTypes,
    WebhookTestResult,
    delivery_list,
    delivery_resource,
    endpoint_resource,
    endpoint_with_secret,
)
from service.errors import InvalidRequest
from service.jobs.fields import Flag, Text, validated
from service.jobs.record import EVENT_TYPES, EventType
from service.jobs.request import EventTypes
from service.webhooks.deliveries import DeliveryState
from service.webhooks.receiver import MAX_URL_CHARACTERS

router = APIRouter(tags=["webhooks"])

Url = Annotated[Text, Field(max_length=MAX_URL_CHARACTERS, examples=["https://example.com/hooks"])]
Name = Annotated[Text, Field(max_length=128)]
After = Annotated[str | None, Query(description="The last id of the page before.")]
Limit = Annotated[int, Query(ge=1, le=100)]
WithFields = Annotated[Fields, Depends(read_fields)]
WithFieldsIfAny = Annotated[Fields, Depends(read_fields_if_any)]


class NewEndpoint(BaseModel):
    model_config = ConfigDict(frozen=True)

    url: Url
    name: Name = ""
    event_types: EventTypes = EVENT_TYPES


class ChangedEndpoint(BaseModel):
    """What is left out stays as it is."""

    model_config = ConfigDict(frozen=True)

    url: Url | None = None
    name: Name | None = None
    event_types: EventTypes | None = None
    enabled: Flag | None = None


class Rotation(BaseModel):
    model_config = ConfigDict(frozen=True)

    keep_old_secret_active_for_24_hours: Flag = True


class TestEvent(BaseModel):
    model_config = ConfigDict(frozen=True)

    event_type: EventType = "video.completed"


@router.post(
    "/webhook_endpoints",
    responses=problem_docs(400, 401, 403, 413, 503),
    openapi_extra=body_docs(NewEndpoint),
    summary="Create a webhook endpoint",
)
def create_endpoint(gateway: WithGateway, tenant: WithCreator, fields: WithFields) -> WebhookEndpointWithSecret:
    """It gets every event from now on. The reply alone shows the secret that signs them."""
    asked = validated(NewEndpoint, fields)
    gateway.receiver_rules.receiver(asked.url, param="url")
    endpoint = gateway.endpoints.create(
        tenant=tenant.name, url=asked.url, name=asked.name, event_types=asked.event_types
    )
    note_target("endpoint_id", endpoint.id)
    return endpoint_with_secret(endpoint)


@router.get("/webhook_endpoints", responses=problem_docs(400, 401, 403, 503), summary="List webhook endpoints")
def list_endpoints(
    gateway: WithGateway, tenant: WithReader, after: After = None, limit: Limit = 20
) -> WebhookEndpointList:
    """The newest first."""
    endpoints = gateway.endpoints.list(tenant=tenant.name)
    ids = [endpoint.id for endpoint in endpoints]
    if after is not None and after not in ids:
        raise InvalidRequest(f"after: there is no webhook endpoint {after}.", param="after")
    rest = endpoints[0 if after is None else ids.index(after) + 1 :]
    data = [endpoint_resource(endpoint) for endpoint in rest[:limit]]
    return WebhookEndpointList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=len(rest) > limit,
    )


@router.get("/webhook_event_types", summary="List the events that there are")
def list_event_types() -> WebhookEventTypes:
    return WebhookEventTypes(data=list(EVENT_TYPES))


@router.get(
    "/webhook_endpoints/{endpoint_id}", responses=problem_docs(401, 403, 404, 503), summary="Look at a webhook endpoint"
)
def get_endpoint(gateway: WithGateway, tenant: WithReader, endpoint_id: str) -> WebhookEndpoint:
    return endpoint_resource(gateway.endpoints.get(endpoint_id, tenant=tenant.name))


@router.post(
    "/webhook_endpoints/{endpoint_id}",
    responses=problem_docs(400, 401, 403, 404, 413, 503),
    openapi_extra=body_docs(ChangedEndpoint),
    summary="Change a webhook endpoint",
)
def change_endpoint(gateway: WithGateway, tenant: WithCreator, endpoint_id: str, fields: WithFields) -> WebhookEndpoint:
    """`"enabled": true` opens it again after it was disabled. What waits for it is then tried at once."""
    asked = validated(ChangedEndpoint, fields)
    if asked.url is not None:
        gateway.receiver_rules.receiver(asked.url, param="url")
    endpoint = gateway.endpoints.change(
        endpoint_id,
        tenant=tenant.name,
        url=asked.url,
        name=asked.name,
        event_types=asked.event_types,
        is_enabled=asked.enabled,
    )
    return endpoint_resource(endpoint)


@router.delete(
    "/webhook_endpoints/{endpoint_id}", responses=problem_docs(401, 403, 404, 503), summary="Delete a webhook endpoint"
)
def delete_endpoint(gateway: WithGateway, tenant: WithCreator, endpoint_id: str) -> DeletedWebhookEndpoint:
    """With its deliveries, those that wait too."""
    gateway.endpoints.delete(endpoint_id, tenant=tenant.name)
    return DeletedWebhookEndpoint(id=endpoint_id)


@router.post(
    "/webhook_endpoints/{endpoint_id}/rotate_secret",
    responses=problem_docs(400, 401, 403, 404, 413, 503),
    openapi_extra=body_docs(Rotation, is_required=False),
    summary="Rotate the secret",
)
def rotate_secret(
    gateway: WithGateway, tenant: WithCreator, endpoint_id: str, fields: WithFieldsIfAny
) -> WebhookEndpointWithSecret:
    """For 24 hours both secrets sign, so that the receiver can change over; `false` ends the old one at once."""
    asked = validated(Rotation, fields)
    keeps_old = asked.keep_old_secret_active_for_24_hours
    return endpoint_with_secret(gateway.endpoints.rotate_secret(endpoint_id, tenant=tenant.name, keeps_old=keeps_old))


@router.post(
    "/webhook_endpoints/{endpoint_id}/test",
    responses=problem_docs(400, 401, 403, 404, 413, 502, 503),
    openapi_extra=body_docs(TestEvent, is_required=False),
    summary="Send a test event",
)
def send_test_event(
    gateway: WithGateway, tenant: WithCreator, endpoint_id: str, fields: WithFieldsIfAny
) -> WebhookTestResult:
    """Signed like any other, of a video `video_test` that does not exist. Sent once, now, to disabled ones too."""
    asked = validated(TestEvent, fields)
    endpoint = gateway.endpoints.get(endpoint_id, tenant=tenant.name)
    status = asked.event_type.removeprefix("video.")
    video = Video.model_validate({**SAMPLE, "status": status}).model_dump(mode="json")
    code = gateway.trial.send(endpoint, event_type=asked.event_type, video=video, now=gateway.clock())
    return WebhookTestResult(webhook_endpoint_id=endpoint_id, event_type=asked.event_type, status_code=code)


@router.get(
    "/webhook_endpoints/{endpoint_id}/deliveries",
    responses=problem_docs(400, 401, 403, 404, 503),
    summary="List an endpoint's deliveries",
)
def list_deliveries(
    gateway: WithGateway,
    tenant: WithReader,
    endpoint_id: str,
    status: DeliveryState | None = None,
    after: After = None,
    limit: Limit = 20,
) -> WebhookDeliveryList:
    """With their attempts, the newest first. `status=dead` lists those that were given up."""
    gateway.endpoints.get(endpoint_id, tenant=tenant.name)
    return delivery_list(
        gateway.deliveries.list(endpoint_id, tenant=tenant.name, state=status, after=after, limit=limit)
    )


@router.get(
    "/videos/{video_id}/deliveries",
    responses=problem_docs(401, 403, 404, 503),
    summary="List the deliveries of a video's own webhook",
)
def list_deliveries_of_video(gateway: WithGateway, tenant: WithReader, video_id: str) -> WebhookDeliveryList:
    """One, once the video has ended, with its attempts."""
    gateway.store.get(video_id, tenant=tenant.name)
    return delivery_list(gateway.deliveries.list(video_id, tenant=tenant.name))


@router.post(
    "/webhook_endpoints/{owner_id}/deliveries/{delivery_id}/replay",
    responses=problem_docs(401, 403, 404, 409, 503),
    summary="Deliver again to an endpoint",
)
@router.post(
    "/videos/{owner_id}/deliveries/{delivery_id}/replay",
    responses=problem_docs(401, 403, 404, 409, 503),
    summary="Deliver again to a video's own webhook",
)
def replay_delivery(gateway: WithGateway, tenant: WithCreator, owner_id: str, delivery_id: str) -> WebhookDelivery:
    """Begins a delivery that has ended anew: same event and webhook-id, the whole schedule."""
    return delivery_resource(gateway.deliveries.replay(delivery_id, owner=owner_id, tenant=tenant.name))
