"""The `wanserve` command. Knows no engine: other packages add commands by an entry point.

An entry point of the group "wanserve.commands" names a function that takes argparse's sub-parsers, adds a parser
of its own and sets its default `run`: from the parsed arguments to the exit code. It imports nothing heavy
before that.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from service.batches_cli import add_batches
from service.doctor_cli import add_doctor
from service.errors import ServiceError, StartupError
from service.keys_cli import add_keys
from service.logs import configure_logs
from service.operations_cli import add_operations
from service.reviews_cli import add_reviews
from service.settings import Settings
from service.verify_cli import add_verify
from service.videos_cli import add_videos

COMMANDS_GROUP = "wanserve.commands"
EXIT_FAILED = 1
EXIT_USAGE = 2
"""A supervisor must not start the process again: the same settings would fail the same way."""

EXIT_INTERRUPTED = 130
EXIT_PIPE = 141
"""As of a process that SIGPIPE ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Errors of ours are one line on standard error."""
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        code = run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read it has enough (`| head`). The interpreter would flush once more, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except ServiceError as e:
        print(f"wanserve: {e.message}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wanserve", description="Self-hosted text-to-video service for Wan2.2.")
    parser.add_argument("--version", action="version", version=f"wanserve {metadata.version('wanserve')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_up(commands)
    _add_gateway(commands)
    add_videos(commands)
    add_batches(commands)
    add_reviews(commands)
    add_keys(commands)
    add_operations(commands)
    add_verify(commands)
    add_doctor(commands)
    for entry_point in sorted(metadata.entry_points(group=COMMANDS_GROUP), key=lambda point: point.name):
        entry_point.load()(commands)
    return parser


def _add_up(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "up",
        help="run everything on this machine",
        description="Start what is not configured (Redis, S3), a gateway and a worker, and keep them running until "
        "Ctrl-C. Settings come from the environment; see the README.",
    )
    parser.add_argument("--port", type=int, help="where the gateway listens (WANSERVE_PORT, 8000)")
    parser.add_argument("--data-dir", type=Path, help="everything on disk (WANSERVE_DATA_DIR, ./data)")
    parser.set_defaults(run=_run_up)


def _add_gateway(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "gateway",
        help="run an HTTP gateway",
        description="Run a gateway: HTTP in front, Redis and S3 behind. Settings come from the environment.",
    )
    parser.add_argument("--port", type=int, help="where it listens (WANSERVE_PORT, 8000)")
    parser.set_defaults(run=_run_gateway)


def _run_up(arguments: argparse.Namespace) -> int:
    from service.up import up

    settings = _settings(port=arguments.port, data_dir=arguments.data_dir)
    configure_logs(settings, process="up")
    return up(settings)


def _run_gateway(arguments: argparse.Namespace) -> int:
    try:
        settings = _settings(port=arguments.port)
        configure_logs(settings, process="gateway")
        from service.api.server import run_gateway

        run_gateway(settings)
    except StartupError as e:
        print(f"wanserve: {e.message}", file=sys.stderr)
        return EXIT_USAGE
    return 0


def _settings(**given: object) -> Settings:
    return Settings.load().with_changes(**{name: value for name, value in given.items() if value is not None})


if __name__ == "__main__":
    sys.exit(main())
