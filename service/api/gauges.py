"""What a gateway's metrics read from Redis whenever they are read themselves; each is O(1) in the queue's length."""

from itertools import islice

from redis import Redis

from service.api.deps import Gateway
from service.jobs.cache_use import cache_use
from service.jobs.memory import memory_use
from service.jobs.operations import Operations
from service.metrics import GatewayMetrics

SHOWN_BUDGETS = 100
"""Of so many tenants, the first by name: each is a series more."""


def watch_queue(metrics: GatewayMetrics, gateway: Gateway, redis: Redis) -> None:
    metrics.watch(gateway.reviews.backlog, metrics.show_reviews)
    metrics.watch(Operations(redis).lanes, metrics.show_lanes)
    metrics.watch(lambda: memory_use(redis), metrics.show_memory)
    metrics.watch(lambda: cache_use(redis), metrics.show_cache)
    metrics.watch(lambda: gateway.usage.budgets_used(_budgets(gateway)), metrics.show_budgets)
    metrics.watch(lambda: gateway.places.num_open, metrics.show_event_streams)


def _budgets(gateway: Gateway) -> dict[str, float]:
    """GPU seconds a day, of tenants that have a budget."""
    budgets = ((tenant.name, tenant.daily_gpu_seconds) for tenant in gateway.tenants.list())
    return dict(islice(((name, budget) for name, budget in budgets if budget is not None), SHOWN_BUDGETS))
