"""Looks at everything that a gateway and a worker need, for real, and says what to do about what is wrong."""

import io
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib import metadata

import httpx
from redis import Redis

from service.checkup import Finding, Health
from service.errors import ServiceError
from service.jobs.connection import connect, redis_errors
from service.loopback import asks_for_keys
from service.settings import Settings
from service.storage import open_storage

CHECKS_GROUP = "wanserve.checks"
OLDEST_REDIS = (7, 0)
SMALLEST_DISK = 2 * 10**9
WORST_CLOCK, POOR_CLOCK = 60.0, 5.0
"""Seconds off. S3 refuses signatures that are a quarter of an hour off; leases go by Redis' clock."""

CERTIFICATE_DAYS = 14


def examine(settings: Settings) -> Iterator[Finding]:
    """One after another, as they are found. REDIS_URL and, unless objects lie in a folder, S3_ENDPOINT must be set."""
    for name, check in _checks():
        yield _guarded(name, check, settings)
    for entry_point in sorted(metadata.entry_points(group=CHECKS_GROUP), key=lambda point: point.name):
        for name, check in entry_point.load():
            yield _guarded(name, check, settings)


def _checks() -> Sequence[tuple[str, Callable[[Settings], Finding]]]:
    return (
        ("redis", _redis),
        ("storage", _storage),
        ("clock", _clock),
        ("disk", _disk),
        ("secrets", _secrets),
        ("certificate", _certificate),
    )


def _guarded(name: str, check: Callable[[Settings], Finding], settings: Settings) -> Finding:
    """A check that meets an error of ours has found something; what is not installed can't be looked at."""
    try:
        return check(settings)
    except ServiceError as e:
        return Finding(name, Health.FAIL, e.message, "Do what the message says.")
    except ModuleNotFoundError as e:
        return Finding(name, Health.ABSENT, f"{e.name} is not installed: a worker's image has it.")


def _redis(settings: Settings) -> Finding:
    with connect(str(settings.redis_url)) as redis:
        return _durability(redis)


@redis_errors()
def _durability(redis: Redis) -> Finding:
    server = redis.info("server")
    version = str(server.get("valkey_version") or server["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        return Finding("redis", Health.FAIL, f"version {version}", "Run Redis 7 or Valkey 8, or newer.")
    wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
    found = {name: str(redis.config_get(name).get(name)) for name in wanted}
    seen = f"version {version}, " + ", ".join(f"{name} {value}" for name, value in found.items())
    if found["appendonly"] != "yes" or found["maxmemory-policy"] != "noeviction":
        return Finding("redis", Health.FAIL, seen, "Jobs would be lost: use the settings of deploy/valkey/valkey.conf.")
    if found["appendfsync"] != "always":
        return Finding("redis", Health.WARN, seen, "A power cut may lose a second of jobs: set appendfsync always.")
    return Finding("redis", Health.OK, seen)


def _storage(settings: Settings) -> Finding:
    """Writes, reads a part of, lists and deletes an object of its own."""
    key, content = f"doctor/{uuid.uuid4().hex}", b"0123456789"
    with closing(open_storage(settings, is_patient=False)) as storage:
        storage.ensure_bucket()
        storage.put_stream(key, io.BytesIO(content), content_type="text/plain")
        part = b"".join(storage.read(key, start=2, end=5))
        listed = list(storage.keys(key))
        storage.delete([key])
    where = f"bucket {settings.bucket} at {settings.s3_endpoint or 'AWS'}" if settings.uses_s3 else "a local folder"
    if part != content[2:5] or listed != [key]:
        fix = "It must speak S3, ranges and ListObjectsV2 too."
        return Finding("storage", Health.FAIL, f"{where} reads or lists wrongly", fix)
    return Finding("storage", Health.OK, f"{where}: written, read, listed, deleted")


def _clock(settings: Settings) -> Finding:
    if settings.s3_endpoint is None:
        return Finding("clock", Health.ABSENT, "no S3_ENDPOINT to compare with")
    try:
        stamp = httpx.get(settings.s3_endpoint, timeout=5, trust_env=False).headers.get("date")
    except httpx.HTTPError as e:
        return Finding("clock", Health.FAIL, str(e), "Make S3_ENDPOINT reachable.")
    if stamp is None:
        return Finding("clock", Health.ABSENT, "the object store does not tell its time")
    seconds = abs((datetime.now(UTC) - parsedate_to_datetime(stamp)).total_seconds())
    seen = f"{seconds:.0f} s off the object store's"
    if seconds > WORST_CLOCK:
        return Finding("clock", Health.FAIL, seen, "Run a time service (chrony): signatures and certificates need it.")
    if seconds > POOR_CLOCK:
        return Finding("clock", Health.WARN, seen, "Run a time service (chrony).")
    return Finding("clock", Health.OK, seen)


def _disk(settings: Settings) -> Finding:
    folder = settings.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        (folder / ".doctor").write_bytes(b"ok")
        (folder / ".doctor").unlink()
    except OSError as e:
        return Finding("disk", Health.FAIL, f"{folder}: {e.strerror}", "Set another WANSERVE_DATA_DIR.")
    seen = f"{free / 1e9:.1f} GB free in {folder}"
    if free < SMALLEST_DISK:
        return Finding("disk", Health.WARN, seen, "Make room: files are encoded here before they are uploaded.")
    return Finding("disk", Health.OK, seen)


def _secrets(settings: Settings) -> Finding:
    names = ("link_secret", "key_pepper", "provenance_secret", "watermark_secret")
    missing = [f"WANSERVE_{name.upper()}" for name in names if getattr(settings, name) is None]
    if missing and asks_for_keys(settings):
        fix = "Set them (`make secrets`), alike for all gateways and workers: else each machine makes its own."
        return Finding("secrets", Health.WARN, f"not set: {', '.join(missing)}", fix)
    return Finding("secrets", Health.OK, "kept in the data folder" if missing else "all set")


def _certificate(settings: Settings) -> Finding:
    from service.provenance.notary import Notary

    ends = Notary(settings).expires_at
    if settings.c2pa_certificate is None:
        fix = "Set WANSERVE_C2PA_CERTIFICATE and its key: readers elsewhere call this signer unknown."
        return Finding("certificate", Health.WARN, f"made for development, until {ends:%Y-%m-%d}", fix)
    if ends - datetime.now(UTC) < timedelta(days=CERTIFICATE_DAYS):
        return Finding("certificate", Health.WARN, f"ends on {ends:%Y-%m-%d}", "Renew it.")
    return Finding("certificate", Health.OK, f"until {ends:%Y-%m-%d}")
