"""Servers that wanserve brings along: Valkey and SeaweedFS from wheels, on loopback, under data_dir."""

from types import TracebackType
from typing import Self

from service.settings import Settings


class EmbeddedServers:
    """What the settings leave out, running. Use it as a context manager; leaving it stops what it started."""

    settings: Settings
    """The settings that were given, with REDIS_URL and S3_ENDPOINT filled in."""

    @classmethod
    def start(cls, settings: Settings) -> Self:
        """Start, or reuse what lives already under the same data_dir; ready when it returns.

        Servers whose owner died are stopped first. Raises EmbeddedServerError, which says what to do.
        """
        raise NotImplementedError

    def revive(self) -> list[str]:
        """Restart, on the same ports, servers that died; their names."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop what this object started; a reused server stays. Safe to call twice."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def attach(settings: Settings) -> Settings:
    """Fill in the addresses of servers that another process runs under the same data_dir; nothing is started.

    Raises EmbeddedServerError when REDIS_URL is not set and no server lives there.
    """
    raise NotImplementedError
