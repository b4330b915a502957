"""Does memory stay flat? A gateway over many requests, a worker over many videos. `make bench NAME=memory`.

`python -m bench.memory gateway --requests 5000` or `worker --jobs 20`: a part, shorter. A figure is the resident memory
at the end over that after the first tenth, when all that is made once is made.
"""

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.embedded_card import embedded_card
from bench.load import message, requests_per_second
from bench.report import Figure, report
from bench.running import wait_until
from bench.scale import working
from bench.traffic import complete_next_video, post_video, serving
from service.embedded import EmbeddedServers
from service.embedded.process import free_ports
from service.jobs.connection import connect
from service.jobs.queue import JobQueue
from service.jobs.request import parse, resolve
from service.jobs.store import VideoStore
from service.jobs.submission import Submission
from service.settings import Settings

GOAL = 1.05
NUM_TURNS = 10
STATUSES = (200, 400, 404)
CLIPS = ({"num_frames": 5, "num_inference_steps": 4}, {"num_inference_steps": 6}, {"num_frames": 9})


def main() -> int:
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser(prog="python -m bench.memory")
    parser.add_argument("part", nargs="*", metavar="PART", help="gateway, worker; without one both")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=200)
    given = parser.parse_args()
    parts: dict[str, Callable[[Path], Iterator[Figure]]] = {
        "gateway": lambda folder: gateway_figures(folder, num_requests=given.requests),
        "worker": lambda folder: worker_figures(folder, num_jobs=given.jobs),
    }
    if unknown := [name for name in given.part if name not in parts]:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(parts)}")
    with tempfile.TemporaryDirectory(prefix="wanserve-bench-") as folder:
        chosen = given.part or list(parts)
        return report(itertools.chain.from_iterable(parts[name](Path(folder) / name) for name in chosen))


def gateway_figures(folder: Path, *, num_requests: int) -> Iterator[Figure]:
    """Looks at videos, videos answered from the cache, lists, and requests that are wrong."""
    settings = Settings(data_dir=folder, log_level="warning", max_queue_depth=10**9)
    with ExitStack() as opened:
        servers = opened.enter_context(EmbeddedServers.start(settings))
        assert servers.settings.redis_url is not None
        redis = opened.enter_context(connect(servers.settings.redis_url))
        VideoStore(redis).register_card(embedded_card())
        gateway = servers.settings.with_changes(port=free_ports(["gateway"])["gateway"])
        process = opened.enter_context(serving("service.api", gateway, path="/liveness"))
        completed = post_video(gateway, seed=1)
        complete_next_video(gateway, redis)
        waiting = post_video(gateway, seed=2)
        requests = _mixed(random.Random(0), completed, waiting, num_requests // NUM_TURNS)

        def turn() -> None:
            requests_per_second(gateway.port, requests, statuses=STATUSES)

        yield from flat_figures(f"gateway, {num_requests} requests", process, turn)


def worker_figures(folder: Path, *, num_jobs: int) -> Iterator[Figure]:
    """Videos of several lengths and numbers of steps, each with another prompt."""
    settings = Settings(data_dir=folder, log_level="warning")
    with ExitStack() as opened:
        servers = opened.enter_context(EmbeddedServers.start(settings))
        assert servers.settings.redis_url is not None
        redis = opened.enter_context(connect(servers.settings.redis_url))
        process = opened.enter_context(working(servers.settings))
        wait_until(lambda: len(VideoStore(redis).live_workers()) == 1)
        queue, numbers = JobQueue(redis, servers.settings), itertools.count()

        def turn() -> None:
            for number in itertools.islice(numbers, num_jobs // NUM_TURNS):
                queue.submit(_submission(number))
            wait_until(lambda: queue.depth() == 0 and queue.num_running() == 0, seconds=1200.0)

        yield from flat_figures(f"worker, {num_jobs} videos", process, turn)


def flat_figures(name: str, process: subprocess.Popen[bytes], turn: Callable[[], None]) -> Iterator[Figure]:
    turn()
    first = resident_bytes(process.pid)
    for _ in range(NUM_TURNS - 1):
        turn()
    last = resident_bytes(process.pid)
    yield Figure(f"{name}: after the first tenth", first / 1e6, "MB")
    yield Figure(f"{name}: at the end", last / 1e6, "MB")
    yield Figure(f"{name}: end / first tenth", last / first, goal=GOAL)


def resident_bytes(pid: int) -> float:
    """NaN where there is no /proc."""
    file = Path(f"/proc/{pid}/statm")
    if not file.exists():
        return float("nan")
    return float(int(file.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))


def _mixed(rng: random.Random, completed: str, waiting: str, count: int) -> list[bytes]:
    headers = {"Content-Type": "application/json"}
    again = json.dumps({"prompt": "a red ball", "size": "256x256", "seed": 7}).encode()
    wrong = json.dumps({"prompt": "a red ball", "size": "9x9"}).encode()
    kinds = [
        message("GET", f"/v1/videos/{completed}"),
        message("GET", f"/v1/videos/{waiting}"),
        message("GET", "/v1/videos/video_nobody"),
        message("GET", "/v1/videos?limit=20"),
        message("POST", "/v1/videos", body=again, headers=headers),
        message("POST", "/v1/videos", body=wrong, headers=headers),
        message("POST", "/v1/videos", body=b"{", headers=headers),
    ]
    return rng.choices(kinds, weights=(30, 30, 5, 10, 15, 5, 5), k=count)


def _submission(number: int) -> Submission:
    card = embedded_card()
    asked = parse({"prompt": f"a red circle, take {number}", "seed": number, **CLIPS[number % len(CLIPS)]})
    return Submission(request=resolve(asked, card).request, fingerprint=card.fingerprint)


if __name__ == "__main__":
    sys.exit(main())
