"""What the tests of webhooks do again and again."""

from collections.abc import Callable

from service.jobs.record import DEFAULT_TENANT
from service.webhooks.deliveries import Deliveries, Delivery
from service.webhooks.dispatch import Dispatch
from service.webhooks.endpoints import Endpoint, Endpoints

PassTime = Callable[[], None]
MakeDispatch = Callable[..., Dispatch]


def create(endpoints: Endpoints, url: str, **fields: object) -> Endpoint:
    asked = {"name": "", "event_types": ("video.completed", "video.failed"), **fields}
    return endpoints.create(tenant=DEFAULT_TENANT, url=url, **asked)  # type: ignore[arg-type]


def only_delivery(deliveries: Deliveries, owner: str) -> Delivery:
    [delivery] = deliveries.list(owner, tenant=DEFAULT_TENANT).deliveries
    return delivery


def deliver_all(dispatch: Dispatch) -> int:
    """The number of deliveries that were claimed."""
    num = 0
    while dispatch.deliver_next():
        num += 1
    return num
