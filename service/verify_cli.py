"""`wanserve verify FILE`: what a video file proves about where it comes from."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.provenance.evidence import Evidence

EXIT_UNPROVEN = 1
EXIT_USAGE = 2

SEALS = {
    "none": "none",
    "invalid": "INVALID: the file was changed after it was signed",
    "valid": "valid: nothing was changed since it was signed, by a signer who is not known here",
    "trusted": "valid: nothing was changed since it was signed, by a signer who is known here",
}


def add_verify(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "verify",
        help="what a video file proves about where it comes from",
        description="Look at a file's label and signature. Ends with 0 for a valid signature, with 1 for a broken one "
        "or none, with 2 for a file that is no video.",
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument(
        "--trust", type=Path, action="append", default=[], metavar="PEM", help="certificates of signers to trust"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from service.provenance.evidence import NotAVideo, Seal, examine
    from service.provenance.notary import known_anchors
    from service.settings import Settings

    try:
        anchors = [*known_anchors(Settings.load()), *(path.read_text() for path in arguments.trust)]
        evidence = examine(arguments.file, anchors=anchors)
    except NotAVideo as e:
        print(f"wanserve: {e}", file=sys.stderr)
        return EXIT_USAGE
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it holds no PEM"
        name = getattr(e, "filename", None) or arguments.file
        print(f"wanserve: {name} can't be read ({reason}).", file=sys.stderr)
        return EXIT_USAGE
    print(json.dumps(dataclasses.asdict(evidence), ensure_ascii=False, indent=2) if arguments.json else _told(evidence))
    return 0 if evidence.signature.seal in (Seal.VALID, Seal.TRUSTED) else EXIT_UNPROVEN


def _told(evidence: "Evidence") -> str:
    signature, label = evidence.signature, evidence.label
    lines = [f"signature  {SEALS[signature.seal]}"]
    if signature.signer:
        lines.append(f"signer     {signature.signer}")
    lines += [f"fault      {fault}" for fault in signature.faults]
    if signature.generation:
        lines.append(f"model      {signature.generation.get('model')}, {signature.generation.get('fingerprint')}")
        lines.append(f"asset      {signature.generation.get('asset_id')}")
    lines.append(f"label      {'none' if label is None else json.dumps(label, ensure_ascii=False)}")
    lines.append(f"sha256     {evidence.sha256}")
    lines.append(f"pictures   {evidence.packets_sha256}")
    if not evidence.is_there:
        lines.append("No evidence: this says nothing about how the video was made, for marks can be taken off.")
    return "\n".join(lines)
