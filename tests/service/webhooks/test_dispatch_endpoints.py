"""What a standing endpoint signs with, keeps and leaves behind."""

from redis import Redis
from standardwebhooks import Webhook as StandardWebhook

from service.jobs.record import DEFAULT_TENANT
from service.webhooks.deliveries import Deliveries
from service.webhooks.dispatch import Dispatch
from service.webhooks.endpoints import Endpoints
from tests.service.webhooks.conftest import EndVideo
from tests.service.webhooks.receiver import HookReceiver, answer
from tests.service.webhooks.steps import create, deliver_all


class TestEndpoints:
    def test_while_a_secret_rotates_both_sign(
        self, dispatch: Dispatch, end_video: EndVideo, endpoints: Endpoints, receiver: HookReceiver
    ) -> None:
        old = create(endpoints, receiver.url)
        new = endpoints.rotate_secret(old.id, tenant=DEFAULT_TENANT, keeps_old=True)
        end_video("one")
        deliver_all(dispatch)
        endpoints.rotate_secret(old.id, tenant=DEFAULT_TENANT, keeps_old=False)
        end_video("two")
        deliver_all(dispatch)

        first, second = receiver.received
        for secret in (old.secret, new.secret):
            StandardWebhook(secret).verify(first.body, first.headers)
        assert len(second.headers["webhook-signature"].split()) == 1

    def test_a_day_after_the_rotation_the_old_secret_signs_no_more(self, endpoints: Endpoints) -> None:
        endpoint = create(endpoints, "https://example.com/")
        rotated = endpoints.rotate_secret(endpoint.id, tenant=DEFAULT_TENANT, keeps_old=True)

        assert rotated.secrets(now=rotated.updated_at + 86_300) == (rotated.secret, endpoint.secret)
        assert rotated.secrets(now=rotated.updated_at + 86_500) == (rotated.secret,)

    def test_a_deleted_endpoint_leaves_nothing_in_redis(
        self, dispatch: Dispatch, end_video: EndVideo, endpoints: Endpoints, receiver: HookReceiver, redis: Redis
    ) -> None:
        receiver.behaviour = answer(500)
        endpoint = create(endpoints, receiver.url)
        end_video()
        deliver_all(dispatch)

        endpoints.delete(endpoint.id, tenant=DEFAULT_TENANT)

        assert [key for key in redis.scan_iter("*endpoint*") if endpoint.id in key] == []
        assert list(redis.scan_iter("wanserve:delivery:*")) == []
        assert redis.zcard("wanserve:webhooks:targets") == 0

    def test_a_secret_is_in_no_repr(self, endpoints: Endpoints) -> None:
        endpoint = create(endpoints, "https://example.com/")

        assert endpoint.secret not in repr(endpoint)

    def test_only_the_newest_thousand_that_ended_are_kept(
        self,
        endpoints: Endpoints,
        deliveries: Deliveries,
        end_video: EndVideo,
        dispatch: Dispatch,
        redis: Redis,
        receiver: HookReceiver,
    ) -> None:
        endpoint = create(endpoints, receiver.url)
        began = redis.time()[0] - 86_400
        for number in range(1000):
            redis.zadd(f"wanserve:deliveries:{endpoint.id}:delivered", {f"delivery_{number}": began + number})
            redis.zadd(f"wanserve:deliveries:{endpoint.id}:all", {f"delivery_{number}": began + number})
        end_video()

        deliver_all(dispatch)

        for state in ("all", "delivered"):
            kept = redis.zrange(f"wanserve:deliveries:{endpoint.id}:{state}", 0, -1)
            assert (len(kept), kept[0]) == (1000, "delivery_1")
