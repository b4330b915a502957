"""The servers that the settings leave out, together."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from service.embedded.process import EmbeddedServer
from service.embedded.seaweed import ACCESS_KEY, SeaweedFS
from service.embedded.valkey import Valkey
from service.errors import EmbeddedServerError
from service.logs import get_logger
from service.settings import Settings

log = get_logger(__name__)


class EmbeddedServers:
    """What the settings leave out, running. Use it as a context manager; leaving it stops what it started."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        """The settings that were given, with REDIS_URL and S3_ENDPOINT filled in once started."""
        self._servers: list[EmbeddedServer] = []

    @classmethod
    def start(cls, settings: Settings) -> Self:
        """Start, or reuse what lives already under the same data_dir; ready when it returns.

        Servers whose owner died are stopped first. Call it and revive() from a thread that lives as long as
        they shall. Raises EmbeddedServerError, which says what to do.
        """
        servers = cls(settings)
        try:
            servers._start_missing()
        except BaseException:
            servers.stop()
            raise
        return servers

    def revive(self) -> list[str]:
        """Restart, on the same ports, servers of ours that died; their names."""
        return [server.name for server in self._servers if server.revive()]

    def stop(self) -> None:
        """Stop what this object started; a reused server stays. Safe to call twice."""
        for server in reversed(self._servers):
            server.stop()
        self._servers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_missing(self) -> None:
        if self.settings.redis_url is None:
            valkey = Valkey(self.settings.data_dir)
            self._servers.append(valkey)
            valkey.start()
            self.settings = _with_valkey(self.settings, valkey)
        if self.settings.uses_s3:
            return
        if not SeaweedFS.is_installed():
            log.warning("no_s3_server_for_this_platform", objects=str(self.settings.data_dir / "objects"))
            return
        seaweed = SeaweedFS(self.settings.data_dir)
        self._servers.append(seaweed)
        seaweed.start()
        self.settings = _with_seaweed(self.settings, seaweed)


def attach(settings: Settings) -> Settings:
    """Fill in the addresses of servers that another process runs under the same data_dir; starts nothing.

    Raises EmbeddedServerError when REDIS_URL is not set and no server lives there.
    """
    if settings.redis_url is None:
        valkey = Valkey(settings.data_dir)
        if not valkey.find():
            raise EmbeddedServerError(
                f"REDIS_URL is not set and no server runs under {settings.data_dir}: "
                "start `wanserve up`, or set REDIS_URL."
            )
        settings = _with_valkey(settings, valkey)
    if not settings.uses_s3 and SeaweedFS.is_installed():
        seaweed = SeaweedFS(settings.data_dir)
        if not seaweed.find():
            raise EmbeddedServerError(
                f"S3_ENDPOINT is not set and no object store runs under {settings.data_dir}: "
                "start `wanserve up`, or set S3_ENDPOINT."
            )
        settings = _with_seaweed(settings, seaweed)
    return settings


@contextmanager
def borrowed_redis(settings: Settings) -> Iterator[str]:
    """The URL of the settings' Redis. Absent: the embedded one, started for the block alone where none runs.

    Raises EmbeddedServerError.
    """
    if settings.redis_url is not None:
        yield settings.redis_url
        return
    valkey = Valkey(settings.data_dir)
    with valkey.borrowed():
        yield valkey.url


def _with_valkey(settings: Settings, valkey: Valkey) -> Settings:
    return settings.with_changes(redis_url=valkey.url)


def _with_seaweed(settings: Settings, seaweed: SeaweedFS) -> Settings:
    return settings.with_changes(
        s3_endpoint=seaweed.endpoint, s3_access_key=ACCESS_KEY, s3_secret_key=seaweed.secret_key
    )
