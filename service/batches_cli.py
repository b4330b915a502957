"""`wanserve batches`: many videos by one file of any server, over HTTP."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import InvalidRequest, RemoteError
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

if TYPE_CHECKING:
    from service.batches_client import BatchesClient, SeenBatch

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DESCRIPTION = f"Make many videos by one file of requests, JSON lines. {WHICH_SERVER}"


def add_batches(commands: "Commands") -> None:
    """`batches create|get|list|watch|cancel|download`."""
    parser = commands.add_parser("batches", help="make many videos by one file", description=DESCRIPTION)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_create(actions)
    add_json(_of_one(add_action(actions, "get", "look at a batch", _run_get)))
    _add_list(actions)
    _of_one(
        add_action(
            actions, "watch", "follow a batch until it has ended; exit code 1 unless it was completed", _run_watch
        )
    )
    _of_one(add_action(actions, "cancel", "stop a batch; what is finished stays", _run_cancel))
    _add_download(actions)


def _add_create(actions: "Commands") -> None:
    parser = add_action(actions, "create", "upload a file and begin; prints the new batch's id", _run_create)
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help='a request a line: {"custom_id": "1", "method": "POST", "url": "/v1/videos", "body": {"prompt": "…"}}',
    )
    parser.add_argument("--metadata", action="append", type=pair, default=[], metavar="NAME=VALUE")
    parser.add_argument("--wait", action="store_true", help="follow it until it has ended, with a progress bar")
    parser.add_argument("-o", "--output", type=Path, help="wait, then write what it answered there", metavar="FILE")


def _add_list(actions: "Commands") -> None:
    parser = add_action(actions, "list", "batches, the newest first", _run_list)
    parser.add_argument("--limit", type=page_size, default=20, help=f"1 to {MAX_PAGE} (20)", metavar="N")
    parser.add_argument("--after", help="go on after this batch", metavar="BATCH")
    add_json(parser)


def _add_download(actions: "Commands") -> None:
    parser = _of_one(add_action(actions, "download", "write what a batch answered into a file", _run_download))
    parser.add_argument("--errors", action="store_true", help="the requests that were refused or failed instead")
    parser.add_argument("-o", "--output", type=Path, help="default: the batch's id, here", metavar="FILE")


def _run_create(arguments: argparse.Namespace) -> int:
    if arguments.output is not None:
        check_output(arguments.output)
    with _client(arguments) as client:
        try:
            batch = client.create(arguments.file, metadata=dict(arguments.metadata))
        except OSError as e:
            raise InvalidRequest(f"{arguments.file} can't be read ({e.strerror}).", param="file") from e
        print(batch.id, flush=True)
        if arguments.wait or arguments.output is not None:
            batch = _watch(client, batch)
        if arguments.output is not None:
            _save(client, batch, arguments.output, errors=False)
    return 0


def _run_get(arguments: argparse.Namespace) -> int:
    with _client(arguments) as client:
        batch = client.get(arguments.batch)
    print(batch.model_dump_json(indent=2) if arguments.json else _told(batch))
    return 0


def _run_list(arguments: argparse.Namespace) -> int:
    with _client(arguments) as client:
        page = client.list(limit=arguments.limit, after=arguments.after)
    if arguments.json:
        print(page.model_dump_json(indent=2))
        return 0
    print(f"{'batch':40} {'status':12} {'total':>6} {'done':>6} {'failed':>6}  created (UTC)")
    for batch in page.data:
        counts, created = batch.request_counts, datetime.fromtimestamp(batch.created_at, UTC)
        numbers = f"{counts.total:6} {counts.completed:6} {counts.failed:6}"
        print(f"{batch.id:40} {batch.status:12} {numbers}  {created:%Y-%m-%d %H:%M:%S}")
    if page.has_more:
        print(f"There are more: --after {page.data[-1].id}", file=sys.stderr)
    return 0


def _run_watch(arguments: argparse.Namespace) -> int:
    with _client(arguments) as client:
        batch = _watch(client, client.get(arguments.batch))
    print(_told(batch))
    return 0


def _run_cancel(arguments: argparse.Namespace) -> int:
    with _client(arguments) as client:
        batch = client.cancel(arguments.batch)
    print(f"{batch.id} is {batch.status}.")
    return 0


def _run_download(arguments: argparse.Namespace) -> int:
    suffix = ".errors.jsonl" if arguments.errors else ".jsonl"
    file = arguments.output or Path(f"{Path(arguments.batch).name}{suffix}")
    check_output(file)
    with _client(arguments) as client:
        _save(client, client.get(arguments.batch), file, errors=arguments.errors)
    return 0


def _watch(client: "BatchesClient", batch: "SeenBatch") -> "SeenBatch":
    """Until it has ended. Raises RemoteError unless it was completed."""
    from tqdm import tqdm

    batch_id = batch.id
    with tqdm(total=0, unit="video", leave=False) as bar:
        while not batch.has_ended:
            bar.set_description_str(batch.status, refresh=False)
            bar.total = batch.request_counts.total
            bar.n = batch.request_counts.completed + batch.request_counts.failed
            bar.refresh()
            time.sleep(LOOK_SECONDS)
            batch = patiently(lambda: client.get(batch_id))
    if batch.status != "completed":
        faults = [] if batch.errors is None else batch.errors.data
        reasons = " ".join(line(fault.message) for fault in faults)
        raise RemoteError(f"{batch.id} is {batch.status}. {reasons}".rstrip())
    return batch


def _save(client: "BatchesClient", batch: "SeenBatch", file: Path, *, errors: bool) -> None:
    file_id = batch.error_file_id if errors else batch.output_file_id
    if file_id is None:
        what = "refused or failed" if errors else "completed"
        raise RemoteError(f"{batch.id} is {batch.status}, and has no file of what was {what}.")
    with bytes_bar(file) as on_bytes:
        client.download(file_id, file, on_bytes=on_bytes)
    print(f"{file}: {file.stat().st_size} bytes", file=sys.stderr)


def _told(batch: "SeenBatch") -> str:
    counts = batch.request_counts
    shown = {
        "id": batch.id,
        "status": batch.status,
        "requests": f"{counts.total}: {counts.completed} completed, {counts.failed} failed",
        "input file": batch.input_file_id,
        "output file": batch.output_file_id or "-",
        "error file": batch.error_file_id or "-",
    }
    faults = [] if batch.errors is None else [f"{'fault':12} {line(fault.message)}" for fault in batch.errors.data]
    return "\n".join([*(f"{name:12} {value}" for name, value in shown.items()), *faults])


def _of_one(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("batch", metavar="BATCH", help="its id")
    return parser


@contextmanager
def _client(arguments: argparse.Namespace) -> "Iterator[BatchesClient]":
    from service.batches_client import BatchesClient

    server, api_key = server_of(arguments)
    with BatchesClient(server, api_key=api_key) as client:
        yield client
