"""How many clients does one gateway on one core bear? `make bench NAME=gateway`.

A thousand clients that look at their videos every two seconds, and five hundred open event streams, on a gateway that
may use a single core. Errors must be none; the times inform.
"""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from redis import Redis

from bench.crowd import Seen, ends, follow, poll
from bench.embedded_card import embedded_card
from bench.report import Figure, report
from bench.traffic import complete_next_video, post_video, serving
from service.embedded import EmbeddedServers
from service.embedded.process import free_ports
from service.jobs.connection import connect
from service.jobs.store import VideoStore
from service.settings import Settings

NUM_POLLERS = int(os.environ.get("POLLERS", "1000"))
POLL_SECONDS = 2.0
POLLING_SECONDS = float(os.environ.get("POLLING_SECONDS", "20"))
NUM_STREAMS = int(os.environ.get("STREAMS", "500"))
NUM_VIDEOS = 50
"""That wait; several clients look at each."""

OPENED_AT_ONCE = 50


def main() -> int:
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="wanserve-bench-") as folder, ExitStack() as opened:
        settings = Settings(data_dir=Path(folder), port=free_ports(["gateway"])["gateway"], log_level="warning")
        servers = opened.enter_context(EmbeddedServers.start(settings))
        assert servers.settings.redis_url is not None
        redis = opened.enter_context(connect(servers.settings.redis_url))
        VideoStore(redis).register_card(embedded_card())
        gateway = servers.settings.with_changes(port=settings.port)
        process = opened.enter_context(serving("service.api", gateway, path="/liveness"))
        keep_to_one_core(process.pid)
        return report([*polling_figures(gateway, process.pid), *streaming_figures(gateway, redis)])


def keep_to_one_core(pid: int) -> None:
    """All threads of the process; where the system knows no such thing, its interpreter lock must do."""
    if hasattr(os, "sched_setaffinity"):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {0})


def cpu_seconds(pid: int) -> float:
    """Of the process so far; tells more than the clock where others use the core too. NaN where there is no /proc."""
    file = Path(f"/proc/{pid}/stat")
    if not file.exists():
        return float("nan")
    user, system = file.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def polling_figures(gateway: Settings, pid: int) -> Iterator[Figure]:
    ids = [post_video(gateway, seed=seed) for seed in range(NUM_VIDEOS)]
    paths = [f"/v1/videos/{ids[number % NUM_VIDEOS]}" for number in range(NUM_POLLERS)]
    before = cpu_seconds(pid)
    seen = asyncio.run(poll(gateway.port, paths, every_seconds=POLL_SECONDS, for_seconds=POLLING_SECONDS))
    yield Figure("clients that poll every 2 s", NUM_POLLERS)
    yield Figure("  looks", len(seen.seconds) / POLLING_SECONDS, "requests/s")
    yield _errors("  errors", seen)
    yield Figure("  gateway's CPU time a look", (cpu_seconds(pid) - before) / len(seen.seconds) * 1000, "ms")
    yield Figure("  median", seen.percentile(50) * 1000, "ms")
    yield Figure("  99 %", seen.percentile(99) * 1000, "ms")


def streaming_figures(gateway: Settings, redis: Redis) -> Iterator[Figure]:
    opened, ended = asyncio.run(_follow_to_the_end(gateway, redis))
    yield Figure("event streams that are open at once", len(opened.seconds))
    yield _errors("  errors", opened)
    yield Figure("  99 %, to the first event", opened.percentile(99) * 1000, "ms")
    yield _errors("  that missed the end", ended)
    yield Figure("  99 %, from its end to its event", ended.percentile(99) * 1000, "ms")


async def _follow_to_the_end(gateway: Settings, redis: Redis) -> tuple[Seen, Seen]:
    """All streams follow the video that is next in the queue."""
    video_id = await asyncio.to_thread(next_video, redis)
    paths = [f"/v1/videos/{video_id}/events"] * NUM_STREAMS
    streams, opened = await follow(gateway.port, paths, at_once=OPENED_AT_ONCE)
    since = time.perf_counter()
    await asyncio.to_thread(complete_next_video, gateway, redis)
    return opened, await ends(streams, since=since)


def next_video(redis: Redis) -> str:
    """The first of those that wait."""
    waiting = [record for record in VideoStore(redis).list(limit=100, order="asc").records if not record.is_terminal]
    return min(waiting, key=lambda record: (record.queue_position or 0, record.created_at)).id


def _errors(name: str, seen: Seen) -> Figure:
    for reason in sorted(set(seen.errors))[:5]:
        print(f"{seen.errors.count(reason)} x {reason}", file=sys.stderr)
    return Figure(name, len(seen.errors), goal=0)


if __name__ == "__main__":
    sys.exit(main())
