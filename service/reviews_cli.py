"""`wanserve reviews`: the review desk of any server, over HTTP."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from service.remote_cli import (
    MAX_PAGE,
    WHICH_SERVER,
    add_action,
    add_json,
    bytes_bar,
    check_output,
    line,
    page_size,
    server_of,
)

if TYPE_CHECKING:
    from service.reviews_client import ReviewsClient, SeenReview

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DESCRIPTION = f"Look at what is held for review, and decide. Needs a key with the scope review. {WHICH_SERVER}"
PROMPT_CHARACTERS = 60


def add_reviews(commands: "Commands") -> None:
    """`reviews list|show|approve|reject`."""
    parser = commands.add_parser("reviews", help="look at what is held for review, and decide", description=DESCRIPTION)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_list(actions)
    _add_show(actions)
    approve = _of_one(add_action(actions, "approve", "let it be made, or let its owner have it", _run_decide))
    approve.add_argument("--reason", default="", help="kept with the decision")
    approve.set_defaults(decision="approve")
    reject = _of_one(add_action(actions, "reject", "end it as failed; files that were held are removed", _run_decide))
    reject.add_argument("--reason", required=True, help="its owner is told")
    reject.set_defaults(decision="reject")


def _add_list(actions: "Commands") -> None:
    parser = add_action(actions, "list", "what waits, the oldest first", _run_list)
    parser.add_argument("--decided", action="store_true", help="what was decided instead, the latest first")
    parser.add_argument("--stage", choices=("prompt", "frames"), help="only prompts, or only finished videos")
    parser.add_argument("--category", help="only of this category: sexual, violence/graphic …")
    parser.add_argument("--limit", type=page_size, default=20, help=f"1 to {MAX_PAGE} (20)", metavar="N")
    parser.add_argument("--after", help="go on after this review", metavar="REVIEW")
    add_json(parser)


def _add_show(actions: "Commands") -> None:
    parser = _of_one(add_action(actions, "show", "look at a review, and save the video that is held", _run_show))
    parser.add_argument("-o", "--output", type=Path, help="where to save the video", metavar="FILE")
    add_json(parser)


def _of_one(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("review", metavar="REVIEW")
    return parser


def _run_list(arguments: argparse.Namespace) -> int:
    with _client(arguments) as client:
        page = client.list(
            limit=arguments.limit,
            state="decided" if arguments.decided else "pending",
            stage=arguments.stage,
            category=arguments.category,
            after=arguments.after,
        )
    if arguments.json:
        print(page.model_dump_json(indent=2))
        return 0
    print(f"{'review':44} {'stage':7} {'state':9} {'category':17} {'tenant':12} {'since (UTC)':20} prompt")
    for review in page.data:
        since = datetime.fromtimestamp(review.created_at, UTC)
        prompt = line(review.prompt or "")[:PROMPT_CHARACTERS]
        columns = f"{review.id:44} {review.stage:7} {review.state:9} {review.category:17} {review.tenant:12}"
        print(f"{columns} {since:%Y-%m-%d %H:%M:%S}  {prompt}")
    if page.has_more:
        print(f"There are more: --after {page.data[-1].id}", file=sys.stderr)
    return 0


def _run_show(arguments: argparse.Namespace) -> int:
    if arguments.output is not None:
        check_output(arguments.output)
    with _client(arguments) as client:
        review = client.get(arguments.review)
        print(review.model_dump_json(indent=2) if arguments.json else _told(review))
        if arguments.output is not None:
            with bytes_bar(arguments.output) as on_bytes:
                client.download(review.id, arguments.output, on_bytes=on_bytes)
    return 0


def _run_decide(arguments: argparse.Namespace) -> int:
    with _client(arguments) as client:
        review = client.decide(arguments.review, arguments.decision, reason=arguments.reason)
    more = " Somebody else must approve it too." if review.state == "pending" else ""
    print(f"{review.id} is {review.state}.{more}")
    return 0


def _told(review: "SeenReview") -> str:
    why = review.category if review.score is None else f"{review.category}, {review.score:.2f}"
    lines = [
        f"{review.id}: {review.state}, {review.stage} ({why}) of {review.tenant}",
        f"prompt: {line(review.prompt or '-')}",
        f"videos: {', '.join(review.video_ids) or '-'}",
        f"files: {', '.join(review.files) or '-'}",
    ]
    lines += [f"{made.decision} by {made.by}: {line(made.reason) or '-'}" for made in review.decisions]
    return "\n".join(lines)


def _client(arguments: argparse.Namespace) -> "ReviewsClient":
    from service.reviews_client import ReviewsClient

    server, api_key = server_of(arguments)
    return ReviewsClient(server, api_key=api_key)
