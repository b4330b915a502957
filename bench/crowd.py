"""Many clients at once from one thread: pollers with a connection each, and readers of event streams."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.load import message

TIMEOUT_SECONDS = 30.0


@dataclass(slots=True)
class Seen:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)
    """From a question to its whole answer, or from the connection to the first event."""

    errors: list[str] = field(default_factory=list)

    def percentile(self, percent: float) -> float:
        """Seconds; NaN where nothing was seen."""
        if not self.seconds:
            return float("nan")
        ordered = sorted(self.seconds)
        return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


async def poll(port: int, paths: Sequence[str], *, every_seconds: float, for_seconds: float) -> Seen:
    """One client a path, each on a connection of its own; they begin at random within one interval."""
    seen = Seen()
    ends_at = time.perf_counter() + for_seconds
    random_phase = random.Random(1)
    clients = [
        _poll_one(port, path, seen, random_phase.uniform(0, every_seconds), every_seconds, ends_at) for path in paths
    ]
    await asyncio.gather(*clients)
    return seen


async def _poll_one(port: int, path: str, seen: Seen, first_after: float, every_seconds: float, ends_at: float) -> None:
    question = message("GET", path)
    due = time.perf_counter() + first_after
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while due < ends_at:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            asked_at = time.perf_counter()
            writer.write(question)
            await asyncio.wait_for(_answer(reader), TIMEOUT_SECONDS)
            seen.seconds.append(time.perf_counter() - asked_at)
            # As a client does that waits between an answer and the next question.
            due = max(asked_at + every_seconds, time.perf_counter())
        writer.close()
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as e:
        seen.errors.append(repr(e))


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """Raises ValueError for one that is not 200."""
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ValueError(head.partition(b"\r\n")[0].decode())
    [length] = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return await reader.readexactly(int(length))


@dataclass(slots=True)
class Stream:
    """One open event stream."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def follow(port: int, paths: Sequence[str], *, at_once: int) -> tuple[list[Stream], Seen]:
    """Open them, at_once at a time, and wait for the first event of each. The caller closes what is open."""
    seen, gate = Seen(), asyncio.Semaphore(at_once)

    async def open_one(path: str) -> Stream | None:
        async with gate:
            began_at = time.perf_counter()
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
                writer.write(message("GET", path))
                await asyncio.wait_for(reader.readuntil(b"event: progress"), TIMEOUT_SECONDS)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as e:
                seen.errors.append(repr(e))
                return None
            seen.seconds.append(time.perf_counter() - began_at)
            return Stream(reader, writer)

    opened = await asyncio.gather(*map(open_one, paths))
    return [stream for stream in opened if stream is not None], seen


async def ends(streams: Sequence[Stream], *, since: float) -> Seen:
    """Wait until each has told the end of its video. since: of perf_counter(). Closes them."""
    seen = Seen()

    async def end_of(stream: Stream) -> None:
        try:
            await asyncio.wait_for(stream.reader.readuntil(b"event: completed"), TIMEOUT_SECONDS)
            seen.seconds.append(time.perf_counter() - since)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as e:
            seen.errors.append(repr(e))
        finally:
            stream.writer.close()

    await asyncio.gather(*map(end_of, streams))
    return seen
