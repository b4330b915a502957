"""`wanserve keys` and `wanserve usage`. Imports Redis only when a command runs: --help must be quick."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from service.logs import configure_logs
from service.settings import Settings

if TYPE_CHECKING:
    from service.key_desk import KeyDesk, KeyRow
    from service.keys import Scope
    from service.tenants import Tenant, Tenants
    from service.usage import Usage

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

HEADINGS = ("key id", "tenant", "scopes", "per minute", "created", "ends", "revoked")
USAGE_HEADINGS = ("tenant", "day", "queued", "joined", "cached", "gpu seconds", "reserved", "budget")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DESCRIPTION = (
    "API keys lie in the Redis that REDIS_URL names, else in the embedded one of WANSERVE_DATA_DIR, "
    "whether `wanserve up` runs it now or not. With --server they are another machine's: WANSERVE_API_KEY must "
    "hold a key with the scope admin."
)


def add_keys(commands: "Commands") -> None:
    """`wanserve keys create --tenant NAME`, `keys list`, `keys rotate KEYID`, `keys revoke KEYID`; `wanserve usage`."""
    parser = commands.add_parser("keys", help="create, list, rotate and revoke API keys", description=DESCRIPTION)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_create(actions)
    _add_list(actions)
    _add_rotate(actions)
    _add_revoke(actions)
    _add_usage(commands)


def _add_create(actions: "Commands") -> None:
    parser = actions.add_parser(
        "create",
        help="make a key and show it, this once",
        description="Make a key of a tenant, which is made too when it is new. Standard output gets the key alone.",
    )
    parser.add_argument("--tenant", required=True, help="whose key it is; tenants do not see each other's videos")
    parser.add_argument("--weight", type=float, help="the tenant's share of the GPUs against others' (1)")
    parser.add_argument("--max-queued", type=int, help="how many of its jobs may wait at once; 0: no limit of its own")
    parser.add_argument("--max-active", type=int, help="how many of its jobs may wait or run at once; 0: no limit")
    parser.add_argument(
        "--daily-gpu-seconds", type=float, help="GPU time that the tenant may use a day (UTC); negative: no limit"
    )
    parser.add_argument("--lifetime", type=_duration, metavar="30d", help="when the key ends by itself; default: never")
    parser.add_argument(
        "--requests-per-minute", type=int, help="how often this key may ask; default: as often as it likes"
    )
    parser.add_argument(
        "--scopes",
        default="create,read",
        help="what it may do, separated by commas: create (submit, cancel, delete), read (look, download), "
        "review (decide about held videos), admin (/metrics, keys and limits); default: create,read",
    )
    _finish_desk(parser, _run_create)


def _add_list(actions: "Commands") -> None:
    _finish_desk(actions.add_parser("list", help="show every key, without its secret"), _run_list)


def _add_rotate(actions: "Commands") -> None:
    parser = actions.add_parser(
        "rotate",
        help="make a new key for an old one",
        description="Make a key that may do the same, and let the old one end. Standard output gets the new key alone.",
    )
    parser.add_argument("key_id", metavar="KEYID", help="as `keys list` shows it: the middle part of ws_KEYID_…")
    parser.add_argument(
        "--overlap", type=_duration, default=86400.0, metavar="24h", help="for so long the old key works too (24h)"
    )
    _finish_desk(parser, _run_rotate)


def _add_usage(commands: "Commands") -> None:
    parser = commands.add_parser(
        "usage", help="what tenants used, by day", description="Videos and GPU seconds by tenant and day (UTC)."
    )
    parser.add_argument("--tenant", help="this one alone")
    parser.add_argument("--days", type=int, default=7, help="how many, today first (7)")
    _finish(parser, _run_usage)


def _duration(text: str) -> float:
    """Seconds of 90s, 15m, 24h or 30d. Raises ArgumentTypeError."""
    number, unit = text[:-1], text[-1:]
    if unit not in UNITS or not number.isdecimal() or len(number) > 6:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: give 90s, 15m, 24h or 30d")
    return float(int(number) * UNITS[unit])


def _add_revoke(actions: "Commands") -> None:
    parser = actions.add_parser(
        "revoke", help="make a key useless", description="Every gateway refuses the key within seconds."
    )
    parser.add_argument("key_id", metavar="KEYID", help="as `keys list` shows it: the middle part of ws_KEYID_…")
    _finish_desk(parser, _run_revoke)


def _finish(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    parser.add_argument("--data-dir", type=Path, help="as `wanserve up` has it (WANSERVE_DATA_DIR, ./data)")
    parser.set_defaults(run=run, server=None)


def _finish_desk(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    _finish(parser, run)
    parser.add_argument("--server", help="of another machine: http(s)://host:port", metavar="URL")


def _run_create(arguments: argparse.Namespace) -> int:
    from service.key_desk import NewKey

    scopes = _scopes(arguments.scopes)
    _check_rate(arguments.requests_per_minute)
    with _desk(arguments) as desk:
        tenant = desk.put_tenant(arguments.tenant, _given_limits(arguments))
        text = desk.create(NewKey(tenant.name, scopes, arguments.lifetime, arguments.requests_per_minute))
    _audit(arguments, "create_key", key_id=text.split("_")[1], tenant=tenant.name)
    print(f"A key of the tenant {tenant.name} ({_limits(tenant)}), shown this once:", file=sys.stderr)
    print(text)
    return 0


def _check_rate(requests_per_minute: int | None) -> None:
    """Raises InvalidRequest."""
    from service.errors import InvalidRequest

    if requests_per_minute is not None and requests_per_minute < 1:
        raise InvalidRequest("--requests-per-minute must be at least 1; leave it out for no limit.")


def _limits(tenant: "Tenant") -> str:
    words = [f"weight {tenant.weight:g}"]
    if tenant.max_queued is not None:
        words.append(f"at most {tenant.max_queued} jobs wait")
    if tenant.max_active is not None:
        words.append(f"at most {tenant.max_active} jobs wait or run")
    if tenant.daily_gpu_seconds is not None:
        words.append(f"{tenant.daily_gpu_seconds:g} GPU seconds a day")
    return ", ".join(words)


def _run_list(arguments: argparse.Namespace) -> int:
    with _desk(arguments) as desk:
        found, known = desk.keys(), desk.tenants()
    print(_table([HEADINGS, *map(_row, found)], "{:16}  {:20} {:17} {:>10}  {:16}  {:16}  {:16}"))
    for tenant in known:
        print(f"{tenant.name}: {_limits(tenant)}")
    return 0


def _run_rotate(arguments: argparse.Namespace) -> int:
    with _desk(arguments) as desk:
        old, text = desk.rotate(arguments.key_id, overlap_seconds=arguments.overlap)
    _audit(arguments, "rotate_key", key_id=old.id, tenant=old.tenant)
    ends = _day(old.expires_at)
    print(f"The key {old.id} of the tenant {old.tenant} ends at {ends} UTC. The new one:", file=sys.stderr)
    print(text)
    return 0


def _run_usage(arguments: argparse.Namespace) -> int:
    from service.errors import InvalidRequest
    from service.usage import MAX_DAYS

    if not 1 <= arguments.days <= MAX_DAYS:
        raise InvalidRequest(f"--days takes 1 to {MAX_DAYS}.")
    rows: list[Sequence[str]] = [USAGE_HEADINGS]
    with _usage(arguments) as (tenants, usage):
        for tenant in _chosen(tenants, arguments.tenant):
            budget = "-" if tenant.daily_gpu_seconds is None else f"{tenant.daily_gpu_seconds:g}"
            for day in usage.days(tenant.name, num_days=arguments.days):
                numbers = [str(number) for number in (day.queued, day.joined, day.cached)]
                seconds = [f"{day.gpu_seconds:.1f}", f"{day.reserved_gpu_seconds:.1f}"]
                rows.append((tenant.name, day.day.isoformat(), *numbers, *seconds, budget))
    print(_table(rows, "{:20} {:10} {:>7} {:>7} {:>7} {:>12} {:>10} {:>10}"))
    return 0


def _chosen(tenants: "Tenants", name: str | None) -> "Sequence[Tenant]":
    """Where no keys are used, that is the default tenant. Raises TenantNotFound."""
    from service.errors import TenantNotFound
    from service.jobs.record import DEFAULT_TENANT
    from service.tenants import Tenant

    known = {tenant.name: tenant for tenant in tenants.list()}
    known.setdefault(DEFAULT_TENANT, Tenant(name=DEFAULT_TENANT))
    if name is None:
        return list(known.values())
    if name not in known:
        raise TenantNotFound(f"There is no tenant {name}.", param="tenant")
    return [known[name]]


def _run_revoke(arguments: argparse.Namespace) -> int:
    with _desk(arguments) as desk:
        key = desk.revoke(arguments.key_id)
    _audit(arguments, "revoke_key", key_id=key.id, tenant=key.tenant)
    print(f"The key {key.id} of the tenant {key.tenant} is revoked.")
    return 0


@contextmanager
def _desk(arguments: argparse.Namespace) -> "Iterator[KeyDesk]":
    from service.key_desk import RemoteDesk, local_desk
    from service.remote_cli import server_of

    if arguments.server is not None:
        server, api_key = server_of(arguments)
        with RemoteDesk(server, api_key=api_key) as remote:
            yield remote
        return
    with local_desk(_quiet(arguments)) as local:
        yield local


@contextmanager
def _usage(arguments: argparse.Namespace) -> "Iterator[tuple[Tenants, Usage]]":
    from service.embedded import borrowed_redis
    from service.jobs.connection import connect
    from service.tenants import Tenants
    from service.usage import Usage

    with borrowed_redis(_quiet(arguments)) as url, connect(url) as redis:
        yield Tenants(redis), Usage(redis)


def _quiet(arguments: argparse.Namespace) -> Settings:
    """What is borrowed is no news to whoever wants a key."""
    settings = _settings(arguments)
    configure_logs(settings.with_changes(log_level="warning"), process="keys")
    return settings


def _settings(arguments: argparse.Namespace) -> Settings:
    settings = Settings.load()
    return settings if arguments.data_dir is None else settings.with_changes(data_dir=arguments.data_dir)


def _audit(arguments: argparse.Namespace, action: str, *, key_id: str, tenant: str) -> None:
    """It is done already: a log that can't be written is told, and undoes nothing. A server keeps its own."""
    if arguments.server is not None:
        return
    from service.audit import AuditEntry, AuditFile, audit_line

    settings = _settings(arguments)
    targets = {"uid": str(os.getuid()), "api_key_id": key_id, "of_tenant": tenant}
    file = AuditFile(settings.audit_path)
    try:
        file.append([audit_line(AuditEntry(action, targets=targets), at=datetime.now(UTC))])
    except OSError as e:
        print(f"The audit log {settings.audit_path} was not written: {e.strerror or e}.", file=sys.stderr)
    finally:
        file.close()


def _scopes(text: str) -> "tuple[Scope, ...]":
    """Raises InvalidRequest."""
    from service.errors import InvalidRequest
    from service.keys import Scope

    wanted = {word.strip() for word in text.split(",")}
    legal: tuple[Scope, ...] = get_args(Scope)
    if not wanted <= set(legal):
        raise InvalidRequest(f"--scopes takes {', '.join(legal)}, separated by commas; {text!r} was given.")
    return tuple(scope for scope in legal if scope in wanted)


def _given_limits(arguments: argparse.Namespace) -> dict[str, object]:
    """Of the tenant; 0 and, of GPU seconds, less take a limit away."""
    given: dict[str, object] = {} if arguments.weight is None else {"weight": arguments.weight}
    if arguments.max_queued is not None:
        given["max_queued"] = arguments.max_queued or None
    if arguments.max_active is not None:
        given["max_active"] = arguments.max_active or None
    if arguments.daily_gpu_seconds is not None:
        given["daily_gpu_seconds"] = None if arguments.daily_gpu_seconds < 0 else arguments.daily_gpu_seconds
    return given


def _row(key: "KeyRow") -> Sequence[str]:
    rate = "-" if key.requests_per_minute is None else str(key.requests_per_minute)
    dates = (_day(key.created_at), _day(key.expires_at), _day(key.revoked_at))
    return (key.id, key.tenant, ",".join(key.scopes), rate, *dates)


def _day(stamp: float | None) -> str:
    return "-" if stamp is None else f"{datetime.fromtimestamp(stamp, UTC):%Y-%m-%d %H:%M}"


def _table(rows: Sequence[Sequence[str]], shape: str) -> str:
    return "\n".join(shape.format(*row).rstrip() for row in rows)
