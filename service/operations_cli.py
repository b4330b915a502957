"""`wanserve queue`, `jobs` and `workers`: what an operator does by hand. Imports Redis only when a command runs."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from service.logs import configure_logs
from service.settings import Settings

if TYPE_CHECKING:
    from redis import Redis

    from service.jobs.operations import Operations

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    Run = Callable[[argparse.Namespace], int]

PRIORITIES = ("interactive", "standard", "bulk")
WHERE = (
    "Jobs lie in the Redis that REDIS_URL names, else in the embedded one of WANSERVE_DATA_DIR, whether `wanserve up` "
    "runs it now or not."
)


def add_operations(commands: "Commands") -> None:
    """`queue show|pause|resume`, `jobs show|requeue|fail`, `workers list|drain|undrain`."""
    _add_queue(_group(commands, "queue", "look at the queue, pause and resume a priority"))
    _add_jobs(_group(commands, "jobs", "look at a job, requeue or fail it by hand"))
    _add_catalogue(_group(commands, "catalogue", "put finished videos back after a loss of Redis"))
    _add_workers(_group(commands, "workers", "list workers, drain one before it is stopped"))


def _add_queue(actions: "Commands") -> None:
    _action(actions, "show", "jobs that wait", _run_queue_show)
    pause = _doing(lambda operations, given: operations.pause(given.priority), "{priority} is paused: its jobs wait.")
    resume = _doing(lambda operations, given: operations.resume(given.priority), "{priority} is open.")
    for name, explanation, run in (
        ("pause", "hand out no more jobs of a priority; new ones wait", pause),
        ("resume", "hand out its jobs again", resume),
    ):
        _action(actions, name, explanation, run).add_argument("priority", choices=PRIORITIES)


def _add_jobs(actions: "Commands") -> None:
    _action(actions, "show", "where a job is and what happened to it", _run_job_show).add_argument("job", metavar="JOB")
    requeue = _doing(lambda operations, given: operations.requeue(given.job), "{job} is first in its queue.")
    explanation = "take a running job from its worker; it goes on at its last saved state"
    _action(actions, "requeue", explanation, requeue).add_argument("job", metavar="JOB")
    fail = _doing(lambda operations, given: operations.fail(given.job, reason=given.reason), "{job} has failed.")
    parser = _action(actions, "fail", "end a job, and the videos that follow it, as failed", fail)
    parser.add_argument("job", metavar="JOB")
    parser.add_argument("--reason", required=True, help="what its owner is told")


def _add_catalogue(actions: "Commands") -> None:
    _action(actions, "rebuild", "read the provenance records in storage and list their videos again", _run_rebuild)


def _add_workers(actions: "Commands") -> None:
    _action(actions, "list", "workers with a warm model", _run_workers_list)
    drain = _doing(lambda operations, given: operations.drain(given.worker), "{worker} claims nothing more.")
    undrain = _doing(lambda operations, given: operations.undrain(given.worker), "{worker} claims jobs again.")
    for name, explanation, run in (
        ("drain", "let a worker finish what it holds and claim nothing more", drain),
        ("undrain", "let it claim again", undrain),
    ):
        _action(actions, name, explanation, run).add_argument("worker", metavar="WORKER")


def _run_queue_show(arguments: argparse.Namespace) -> int:
    from service.jobs.operations import Operations

    with _redis(arguments) as redis:
        lanes = Operations(redis).lanes()
    print(f"{'priority':12} {'waiting':>8} {'GPU seconds':>12} {'oldest':>9}  state")
    for lane in lanes:
        oldest = "-" if lane.oldest_seconds is None else f"{lane.oldest_seconds:.0f} s"
        state = "paused" if lane.is_paused else "open"
        print(f"{lane.priority:12} {lane.num_jobs:8} {lane.gpu_seconds:12.0f} {oldest:>9}  {state}")
    return 0


def _run_job_show(arguments: argparse.Namespace) -> int:
    from service.jobs.operations import Operations

    with _redis(arguments) as redis:
        job = Operations(redis).job(arguments.job)
    for name, value in job.items():
        print(f"{name:12} {value}")
    return 0


def _run_rebuild(arguments: argparse.Namespace) -> int:
    from service.embedded import EmbeddedServers
    from service.jobs.catalogue import Catalogue
    from service.jobs.connection import connect
    from service.jobs.watermark_ids import WatermarkIds
    from service.provenance.rebuild import rebuild
    from service.storage import open_storage

    settings = _settings(arguments)
    configure_logs(settings.with_changes(log_level="warning"), process="operations")
    with EmbeddedServers.start(settings) as servers:
        settings = servers.settings
        with connect(str(settings.redis_url)) as redis, closing(open_storage(settings)) as storage:
            storage.ensure_bucket()
            found = rebuild(Catalogue(redis), WatermarkIds(redis), storage)
    print(
        f"{found.num_restored} videos are back, {found.num_there} were there, {found.num_gone} are over: expired, or "
        "their files are gone."
    )
    return 0


def _run_workers_list(arguments: argparse.Namespace) -> int:
    from service.jobs.operations import Operations
    from service.jobs.store import VideoStore

    with _redis(arguments) as redis:
        workers, draining = VideoStore(redis).live_workers(), Operations(redis).draining()
    print(f"{'worker':48} {'model':24} {'device':16} state")
    for worker in workers:
        state = "draining" if worker.name in draining else "open"
        print(f"{worker.name:48} {worker.model:24} {worker.device:16} {state}")
    return 0


def _doing(act: "Callable[[Operations, argparse.Namespace], None]", said: str) -> "Run":
    """A command that does one thing and says so; said is filled in with the arguments."""

    def run(arguments: argparse.Namespace) -> int:
        from service.jobs.operations import Operations

        with _redis(arguments) as redis:
            act(Operations(redis), arguments)
        print(said.format_map(vars(arguments)))
        return 0

    return run


def _group(commands: "Commands", name: str, explanation: str) -> "Commands":
    parser = commands.add_parser(name, help=explanation, description=f"{explanation.capitalize()}. {WHERE}")
    return parser.add_subparsers(title="actions", metavar="ACTION", required=True)


def _action(actions: "Commands", name: str, explanation: str, run: "Run") -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=explanation, description=f"{explanation.capitalize()}.")
    parser.add_argument("--data-dir", type=Path, help="as `wanserve up` has it (WANSERVE_DATA_DIR, ./data)")
    parser.set_defaults(run=run)
    return parser


def _settings(arguments: argparse.Namespace) -> Settings:
    settings = Settings.load()
    return settings if arguments.data_dir is None else settings.with_changes(data_dir=arguments.data_dir)


@contextmanager
def _redis(arguments: argparse.Namespace) -> "Iterator[Redis]":
    from service.embedded import borrowed_redis
    from service.jobs.connection import connect

    settings = _settings(arguments)
    # What it borrows is no news to an operator.
    configure_logs(settings.with_changes(log_level="warning"), process="operations")
    with borrowed_redis(settings) as url, connect(url) as redis:
        yield redis
