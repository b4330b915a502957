"""`wanserve videos`: make, watch and fetch videos of any server, over HTTP. Imports httpx only when a command runs."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.errors import RemoteError
from service.remote_cli import (
    LOOK_SECONDS,
    MAX_PAGE,
    WHICH_SERVER,
    add_action,
    add_json,
    bytes_bar,
    check_output,
    line,
    page_size,
    pair,
    patiently,
    server_of,
)
from service.request_options import add_request_options, given_fields

if TYPE_CHECKING:
    from service.videos_client import SeenVideo, Variant, VideosClient

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DESCRIPTION = f"Make, watch and fetch videos. {WHICH_SERVER}"
PRIORITIES = ("interactive", "standard", "bulk")
SUFFIXES = {"video": ".mp4", "thumbnail": ".webp", "spritesheet": ".spritesheet.webp"}
SHOWN = (
    "id",
    "status",
    "progress",
    "stage",
    "queue_position",
    "eta_seconds",
    "model",
    "prompt",
    "size",
    "seconds",
    "num_frames",
    "fps",
    "num_inference_steps",
    "seed",
    "quality",
    "cached",
    "remixed_from_video_id",
)


def add_videos(commands: "Commands") -> None:
    """`videos create|get|list|download|delete|watch`."""
    explanation = "make, watch and fetch videos of a running service"
    parser = commands.add_parser("videos", help=explanation, description=DESCRIPTION)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_create(actions)
    add_json(_of_one(add_action(actions, "get", "look at a video", _run_get)))
    _add_list(actions)
    _add_download(actions)
    delete = add_action(actions, "delete", "remove videos; one in the making is cancelled first", _run_delete)
    delete.add_argument("videos", nargs="+", metavar="VIDEO", help="its id")
    _of_one(add_action(actions, "watch", "follow a video until it has ended; exit code 1 when it failed", _run_watch))


def _add_create(actions: "Commands") -> None:
    parser = add_action(actions, "create", "submit a prompt; prints the new video's id", _run_create)
    add_request_options(parser)
    parser.add_argument("--model", help="its id or an alias; without it the server's first", metavar="VALUE")
    parser.add_argument("--priority", choices=PRIORITIES)
    parser.add_argument("--metadata", action="append", type=pair, default=[], metavar="NAME=VALUE")
    parser.add_argument("--strict", action="store_true", help="refuse what can't be made as asked, snap nothing")
    parser.add_argument("--wait", action="store_true", help="follow it until it has ended, with a progress bar")
    parser.add_argument("-o", "--output", type=Path, help="wait, then write the file there", metavar="FILE")
    add_json(parser)


def _add_list(actions: "Commands") -> None:
    parser = add_action(actions, "list", "videos, the newest first", _run_list)
    parser.add_argument("--limit", type=page_size, default=20, help=f"1 to {MAX_PAGE} (20)", metavar="N")
    parser.add_argument("--after", help="go on after this video", metavar="VIDEO")
    parser.add_argument("--order", choices=("asc", "desc"), default="desc")
    add_json(parser)


def _add_download(actions: "Commands") -> None:
    parser = _of_one(add_action(actions, "download", "write a finished video into a file", _run_download))
    parser.add_argument("--variant", choices=tuple(SUFFIXES), default="video")
    parser.add_argument("-o", "--output", type=Path, help="default: the video's id, here", metavar="FILE")


def _run_create(arguments: argparse.Namespace) -> int:
    if arguments.output is not None:
        check_output(arguments.output)
    fields = given_fields(arguments)
    chosen = {"model": arguments.model, "priority": arguments.priority, "metadata": dict(arguments.metadata)}
    fields |= {name: value for name, value in chosen.items() if value}
    if arguments.strict:
        fields["strict"] = True
    with _client(arguments) as client:
        video = client.create(fields)
        for name, value in video.adjusted.items():
            print(f"{name}: {value.requested} was asked for, {value.used} is what is made.", file=sys.stderr)
        print(video.model_dump_json(indent=2) if arguments.json else video.id, flush=True)
        if arguments.wait or arguments.output is not None:
            _watch(client, video)
        if arguments.output is not None:
            _save(client, video.id, arguments.output, variant="video")
    return 0


def _run_get(arguments: argparse.Namespace) -> int:
    with _client(arguments) as client:
        video = client.get(arguments.video)
    if arguments.json:
        print(video.model_dump_json(indent=2))
    else:
        _show(video)
    return 0


def _run_list(arguments: argparse.Namespace) -> int:
    with _client(arguments) as client:
        page = client.list(limit=arguments.limit, after=arguments.after, order=arguments.order)
    if arguments.json:
        print(page.model_dump_json(indent=2))
        return 0
    print(f"{'video':38} {'status':12} {'':>4}  {'created (UTC)':20} prompt")
    for video in page.data:
        created = datetime.fromtimestamp(video.created_at, UTC).strftime("%Y-%m-%d %H:%M:%S")
        print(f"{video.id:38} {video.status:12} {video.progress:3.0f}%  {created:20} {line(video.prompt or '')[:60]}")
    if page.has_more:
        print(f"There are more: --after {page.data[-1].id}", file=sys.stderr)
    return 0


def _run_download(arguments: argparse.Namespace) -> int:
    file = arguments.output or Path(f"{Path(arguments.video).name}{SUFFIXES[arguments.variant]}")
    check_output(file)
    with _client(arguments) as client:
        _save(client, arguments.video, file, variant=arguments.variant)
    return 0


def _run_delete(arguments: argparse.Namespace) -> int:
    with _client(arguments) as client:
        for video_id in arguments.videos:
            client.delete(video_id)
            print(f"{video_id} is deleted.")
    return 0


def _run_watch(arguments: argparse.Namespace) -> int:
    with _client(arguments) as client:
        video = _watch(client, client.get(arguments.video))
    _show(video)
    return 0


def _watch(client: "VideosClient", video: "SeenVideo") -> "SeenVideo":
    """Until it has ended. Raises RemoteError where it failed."""
    from tqdm import tqdm

    video_id = video.id

    with tqdm(total=100, bar_format="{desc:11} |{bar:40}| {n:3.0f}%  {elapsed}{postfix}") as bar:
        while not video.has_ended:
            _draw(bar, video)
            time.sleep(LOOK_SECONDS)
            video = patiently(lambda: client.get(video_id))
        _draw(bar, video)
    if video.status == "failed":
        error = video.error
        reason = "no reason was given." if error is None else f"{line(error.message)} ({error.code})"
        raise RemoteError(f"{video.id} failed: {reason}")
    return video


def _draw(bar: Any, video: "SeenVideo") -> None:
    held = "held for review" if video.is_held else None
    ahead = None if video.queue_position is None else f"{video.queue_position} ahead"
    left = None if video.eta_seconds is None else f"about {video.eta_seconds:.0f} s left"
    bar.set_postfix_str(", ".join(part for part in (held, ahead, left) if part), refresh=False)
    bar.set_description_str(video.status if video.has_ended else video.stage or video.status, refresh=False)
    bar.n = video.progress
    bar.refresh()


def _save(client: "VideosClient", video_id: str, file: Path, *, variant: "Variant") -> None:
    with bytes_bar(file) as on_bytes:
        client.download(video_id, file, variant=variant, on_bytes=on_bytes)
    print(f"{file}: {file.stat().st_size} bytes", file=sys.stderr)


def _show(video: "SeenVideo") -> None:
    values = video.model_dump()
    for name in SHOWN:
        if values.get(name) not in (None, "", False):
            print(f"{name:24} {line(str(values[name]))}")
    if video.error is not None:
        print(f"{'error':24} {video.error.code}: {line(video.error.message)}")


def _of_one(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("video", metavar="VIDEO", help="its id")
    return parser


@contextmanager
def _client(arguments: argparse.Namespace) -> "Iterator[VideosClient]":
    from service.videos_client import VideosClient

    server, api_key = server_of(arguments)
    with VideosClient(server, api_key=api_key) as client:
        yield client
