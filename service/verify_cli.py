"""`wanserve verify FILE`: what a video file proves about where it comes from, and what its service knows of it."""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import RemoteError, SettingsError
from service.remote_cli import WHICH_SERVER, line, server_of
from service.settings import Settings

if TYPE_CHECKING:
    from service.provenance.records import Origin
    from service.provenance.verification import Verification

EXIT_UNPROVEN = 1
EXIT_USAGE = 2

SEALS = {
    "none": "none",
    "invalid": "INVALID: the file was changed after it was signed",
    "valid": "valid: nothing was changed since it was signed, by a signer who is not known here",
    "trusted": "valid: nothing was changed since it was signed, by a signer who is known here",
}


class _Unreadable(Exception):
    """Of a file; the message says why."""


def add_verify(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "verify",
        help="what a video file proves about where it comes from",
        description="Look at a file's label, signature and watermark, and ask the service that made it what became of "
        "it since and who asked for it. Ends with 0 for a valid signature, with 1 for a broken one or none, with 2 "
        f"for a file that is no video. {WHICH_SERVER} Where that one does not answer, the file is looked at alone.",
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--server", help="http(s)://host:port of the service to ask (WANSERVE_SERVER)", metavar="URL")
    asked.add_argument("--alone", action="store_true", help="look at the file alone, send it nowhere")
    parser.add_argument(
        "--trust",
        type=Path,
        action="append",
        default=[],
        metavar="PEM",
        help="certificates of signers to trust; with it the file is looked at alone",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    try:
        told, doubt = _verify(arguments)
    except (_Unreadable, RemoteError, SettingsError) as e:
        print(f"wanserve: {e}", file=sys.stderr)
        return EXIT_USAGE
    if doubt is not None:
        print(f"wanserve: {doubt}", file=sys.stderr)
    print(told.model_dump_json(indent=2) if arguments.json else "\n".join(_lines(told)))
    return 0 if told.signature.seal in ("valid", "trusted") else EXIT_UNPROVEN


def _verify(arguments: argparse.Namespace) -> "tuple[Verification, str | None]":
    """And why the service was not asked, where that matters."""
    if arguments.alone or arguments.trust:
        return _look(arguments), None
    server, api_key = server_of(arguments)
    try:
        return _ask(arguments.file, server, api_key), None
    except RemoteError as e:
        if arguments.server is not None or Settings.load().server is not None:
            raise
        alone = _look(arguments)
        is_open = alone.verdict in ("marked", "labelled")
        return alone, f"{e.message} The file was looked at alone." if is_open else None


def _ask(file: Path, server: str, api_key: str | None) -> "Verification":
    from service.provenance.verification import Verification
    from service.server_client import ServerClient

    try:
        with file.open("rb") as content, ServerClient(server, api_key=api_key) as client:
            return client.upload(Verification, "/verify", content, name=file.name, fields={})
    except OSError as e:
        raise _unreadable(e, file) from e


def _look(arguments: argparse.Namespace) -> "Verification":
    from service.provenance.evidence import NotAVideo, examine
    from service.provenance.notary import known_anchors
    from service.provenance.verification import verification_of

    file = arguments.file
    try:
        settings = Settings.load()
        anchors = [*known_anchors(settings), *(path.read_text() for path in arguments.trust)]
        return verification_of(examine(file, anchors=anchors, watermark_keys=settings.known_watermark_keys()))
    except NotAVideo as e:
        raise _Unreadable(str(e)) from e
    except OSError as e:
        raise _unreadable(e, file) from e
    except UnicodeDecodeError as e:
        raise _Unreadable("a file of --trust can't be read (it holds no PEM).") from e


def _unreadable(error: OSError, file: Path) -> _Unreadable:
    return _Unreadable(f"{error.filename or file} can't be read ({error.strerror}).")


def _lines(told: "Verification") -> list[str]:
    signature, watermark = told.signature, told.watermark
    lines = [f"verdict    {told.verdict}: {told.message}", f"signature  {SEALS[signature.seal]}"]
    if signature.signer:
        lines.append(f"signer     {line(signature.signer)}")
    lines += [f"fault      {line(fault)}" for fault in signature.faults]
    if (made := signature.generation) is not None:
        revision = f", revision {made['revision']}" if made.get("revision") else ""
        lines.append(line(f"model      {made.get('model')}, {made.get('fingerprint')}{revision}"))
        lines.append(line(f"asset      {made.get('asset_id')}"))
    lines.append(f"label      {'none' if told.label is None else line(json.dumps(told.label, ensure_ascii=False))}")
    found = "none found" if watermark is None else f"{watermark.id}, score {watermark.score:.1f}"
    lines += [f"watermark  {found}", f"sha256     {told.sha256}", f"pictures   {told.packets_sha256}"]
    lines += [f"video      {video_id}" for video_id in told.video_ids]
    for record in told.records:
        lines += _record_lines(record)
    if not told.has_evidence:
        lines.append("No evidence: this says nothing about how the video was made, for marks can be taken off.")
    return lines


def _record_lines(record: "Origin") -> list[str]:
    at = datetime.fromtimestamp(record.created_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    key = f" with the key {record.key_id}" if record.key_id else ""
    said = [f"record     {record.video_id}, asked for on {at} by {record.tenant}{key} ({record.kind})"]
    said.append(f"prompt     {line(record.original_prompt or record.request.prompt)}")
    if record.filter is not None:
        why = f" for {record.filter.category}" if record.filter.category else ""
        said.append(f"filter     {record.filter.action}{why}")
    for review in record.reviews:
        by = ", ".join(f"{decision.by}: {decision.reason or 'no reason given'}" for decision in review.decisions)
        of = f"review     of the {review.stage} for {review.category}: {review.state}"
        said.append(line(f"{of} ({by})" if by else of))
    return said
