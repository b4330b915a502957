"""Questions to a cluster, one at a time and without a storm."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

from service.jobs.operations import Operations
from service.jobs.queue import JobQueue
from service.jobs.request import parse, resolve
from service.jobs.submission import Submission
from tests.chaos.cluster import Cluster, wait_until
from tests.chaos.journal import Deed, Entry, read_journals

NUM_POSTS = 50
FLOOD, TRICKLE = 300, 10


def seconds_until_resumed(cluster: Cluster, client: httpx.Client, *, seed: int) -> float:
    """From the SIGKILL of a job's worker until another one has done a step of it. Two idle workers must be warm."""
    video_id = _post(client, {"prompt": "a red ball", "num_inference_steps": 100, "num_frames": 5, "seed": seed})
    victim = cluster.worker_at_work()
    killed_at = time.monotonic()
    victim.kill()
    victim.join()
    resumed: list[Entry] = []

    def look() -> bool:
        steps = _deeds(cluster, Deed.STEPPED, since=killed_at)
        resumed.extend(entry for entry in steps if entry.worker != victim.pid)
        return bool(resumed)

    wait_until(look)
    _delete(client, [video_id])
    return resumed[0].at - killed_at


def steps_after_cancel(cluster: Cluster, client: httpx.Client, *, seed: int) -> int:
    """Of a running job, begun after its cancellation was answered. One idle worker must be warm."""
    video_id = _post(client, {"prompt": "a red ball", "num_inference_steps": 100, "num_frames": 5, "seed": seed})
    cluster.worker_at_work()
    client.post(f"/v1/videos/{video_id}/cancel").raise_for_status()
    cancelled_at = time.monotonic()
    queue = JobQueue(cluster.redis, cluster.settings)
    wait_until(lambda: queue.num_running() == 0)
    _delete(client, [video_id])
    # The first of them ends a step that was under way.
    return len(_deeds(cluster, Deed.STEPPED, since=cancelled_at))


def executions_of_equal_posts(cluster: Cluster, client: httpx.Client) -> int:
    """How often the engine began a job for NUM_POSTS equal requests at once, each with a key of its own."""
    started = time.monotonic()
    body = {"prompt": "a blue star", "num_inference_steps": 20, "num_frames": 5, "seed": 1}
    with ThreadPoolExecutor(NUM_POSTS) as customers:
        video_ids = list(customers.map(lambda n: _post(client, body, key=f"equal-{n}"), range(NUM_POSTS)))
    _wait_for_completion(client, video_ids)
    _delete(client, video_ids)
    return len({entry.execution_id for entry in _deeds(cluster, Deed.ADMITTED, since=started)})


def videos_of_one_key(client: httpx.Client) -> int:
    """How many videos NUM_POSTS requests with one key make when they come at once."""
    body = {"prompt": "a green triangle", "num_inference_steps": 4, "num_frames": 5}
    with ThreadPoolExecutor(NUM_POSTS) as customers:
        video_ids = set(customers.map(lambda _: _post(client, body, key="the one key"), range(NUM_POSTS)))
    _wait_for_completion(client, list(video_ids))
    _delete(client, list(video_ids))
    return len(video_ids)


def last_place_in_flood(cluster: Cluster) -> int:
    """Another tenant's jobs behind a flood of one tenant's: how many jobs were completed up to the last of them."""
    queue, operations = JobQueue(cluster.redis, cluster.settings), Operations(cluster.redis)
    # Nothing is claimed before everything waits.
    operations.pause("standard")
    flood = [_submit(cluster, queue, tenant="loud", seed=n) for n in range(FLOOD)]
    trickle = [_submit(cluster, queue, tenant="quiet", seed=FLOOD + n) for n in range(TRICKLE)]
    started = time.monotonic()
    operations.resume("standard")
    wanted = {cluster.store.get(video_id).job_id for video_id in trickle}

    def finished() -> list[str]:
        return [entry.job_id for entry in _deeds(cluster, Deed.COMMITTED, since=started)]

    wait_until(lambda: wanted <= set(finished()))
    for video_id in flood + trickle:
        cluster.store.delete(video_id)
    return 1 + max(finished().index(job_id) for job_id in wanted)


def _submit(cluster: Cluster, queue: JobQueue, *, tenant: str, seed: int) -> str:
    card = cluster.store.card()
    fields = {"prompt": "a red ball", "num_inference_steps": 4, "num_frames": 1, "seed": seed}
    request = resolve(parse(fields), card).request
    return queue.submit(Submission(request=request, fingerprint=card.fingerprint, tenant=tenant)).record.id


def _post(client: httpx.Client, body: dict[str, str | int], *, key: str | None = None) -> str:
    headers = {} if key is None else {"Idempotency-Key": key}
    return str(client.post("/v1/videos", json=body, headers=headers).raise_for_status().json()["id"])


def _wait_for_completion(client: httpx.Client, video_ids: Sequence[str]) -> None:
    for video_id in video_ids:
        wait_until(lambda video_id=video_id: _status(client, video_id) == "completed")


def _status(client: httpx.Client, video_id: str) -> str:
    return str(client.get(f"/v1/videos/{video_id}").raise_for_status().json()["status"])


def _delete(client: httpx.Client, video_ids: Sequence[str]) -> None:
    for video_id in video_ids:
        client.delete(f"/v1/videos/{video_id}").raise_for_status()


def _deeds(cluster: Cluster, deed: Deed, *, since: float) -> list[Entry]:
    return [entry for entry in read_journals(cluster.folder) if entry.deed is deed and entry.at > since]
