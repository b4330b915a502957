"""`wanserve doctor`: looks at everything that is needed, and says what to do about what is wrong."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from service.logs import configure_logs
from service.settings import Settings

if TYPE_CHECKING:
    from service.checkup import Finding


def add_doctor(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "doctor",
        help="check settings, Redis, S3, clock, certificate, codec, checkpoint and GPU",
        description="Check everything that a gateway or a worker needs, for real. Servers that are not configured are "
        "started for the while. Ends with 1 where something fails.",
    )
    parser.add_argument("--data-dir", type=Path, help="as `wanserve up` has it (WANSERVE_DATA_DIR, ./data)")
    parser.add_argument("--json", action="store_true", help="print findings as JSON, one a line")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from service.checkup import Finding, Health
    from service.doctor import examine
    from service.embedded import EmbeddedServers

    settings = Settings.load()
    if arguments.data_dir is not None:
        settings = settings.with_changes(data_dir=arguments.data_dir)
    # Findings tell what logs would.
    configure_logs(settings.with_changes(log_level="error"), process="doctor")
    show = _as_json if arguments.json else _told
    print(show(Finding("settings", Health.OK, "all legal")), flush=True)
    num_failed = 0
    with EmbeddedServers.start(settings) as servers:
        for finding in examine(servers.settings):
            print(show(finding), flush=True)
            num_failed += finding.health is Health.FAIL
    return int(num_failed > 0)


def _as_json(finding: "Finding") -> str:
    return json.dumps(dataclasses.asdict(finding), ensure_ascii=False)


def _told(finding: "Finding") -> str:
    line = f"{finding.health:<7} {finding.name:<12} {finding.seen}"
    return f"{line}\n{'':21}-> {finding.fix}" if finding.fix else line
