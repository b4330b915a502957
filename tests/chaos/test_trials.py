"""Equal requests, repeated requests and a flood, on the real gateway and two workers."""

from collections.abc import Iterator

import httpx
import pytest

from tests.chaos.cluster import Cluster
from tests.chaos.trials import executions_of_equal_posts, last_place_in_flood, videos_of_one_key


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as started:
        started.start_workers(2)
        yield started


@pytest.fixture(scope="module")
def client(cluster: Cluster) -> Iterator[httpx.Client]:
    with cluster.client() as opened:
        yield opened


def test_fifty_equal_requests_at_once_are_one_execution(cluster: Cluster, client: httpx.Client) -> None:
    assert executions_of_equal_posts(cluster, client) == 1


def test_fifty_requests_with_one_key_are_one_video(client: httpx.Client) -> None:
    assert videos_of_one_key(client) == 1


def test_a_few_jobs_are_not_held_up_by_another_tenants_flood(cluster: Cluster) -> None:
    assert last_place_in_flood(cluster) <= 30
