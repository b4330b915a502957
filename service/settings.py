"""All settings, read once from the environment. Nobody else reads os.environ."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import SettingsError
from service.kept_secret import kept_secret

PREFIX = "WANSERVE_"


def _plain(name: str, default: Any = None) -> Any:
    """A field read from a variable that other programs know too, without our prefix."""
    return Field(default, validation_alias=AliasChoices(name.upper(), name.lower()))


def _without_trailing_slash(value: object) -> object:
    return value.rstrip("/") if isinstance(value, str) else value


HttpAddress = Annotated[
    str, BeforeValidator(_without_trailing_slash), Field(pattern=r"^https?://[^/\s?#]+(/[^\s?#]*)?$")
]
RedisAddress = Annotated[str, Field(pattern=r"^(rediss?|unix)://\S+$")]


class Settings(BaseSettings):
    """One process' settings. A field is WANSERVE_<FIELD>, unless its own text names another variable."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", validate_default=True
    )

    data_dir: Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())] = Path("data")
    """Everything on disk: embedded servers, keys, fallback objects."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    public_url: HttpAddress | None = None
    """Where clients reach the gateway, for links in records; else the request's own address."""

    redis_url: RedisAddress | None = _plain("redis_url")
    """REDIS_URL. Absent: `wanserve up` starts an embedded server."""

    s3_endpoint: HttpAddress | None = _plain("s3_endpoint")
    """S3_ENDPOINT. Absent, with no S3_BUCKET either: embedded server, or a folder where none can run."""

    s3_public_endpoint: HttpAddress | None = _plain("s3_public_endpoint")
    """S3_PUBLIC_ENDPOINT: the store as clients reach it; turns presigned links on."""

    s3_bucket: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        validation_alias=AliasChoices("S3_BUCKET", "s3_bucket"),
    )
    """S3_BUCKET; created when absent."""

    s3_access_key: str | None = _plain("s3_access_key")
    """S3_ACCESS_KEY. Absent: boto3's own ways (instance role, AWS_ variables)."""

    s3_secret_key: SecretStr | None = _plain("s3_secret_key")
    """S3_SECRET_KEY."""

    s3_region: str = _plain("s3_region", "us-east-1")
    """S3_REGION."""

    cdn_base_url: HttpAddress | None = _plain("cdn_base_url")
    """CDN_BASE_URL: the bucket's content behind a CDN; wins over every other kind of link."""

    checkpoint: str = "embedded"
    """A diffusers folder, or "embedded"."""

    model_aliases: str = Field("", pattern=r"^\s*([\w./:-]+(\s*,\s*[\w./:-]+)*)?\s*$")
    """Names, separated by commas, that a worker's model answers to beside its own: sora-2, say."""

    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    residency: Literal["auto", "both", "swap", "rolling"] = "auto"
    """Where the experts' weights lie: both on the device, or one that is swapped or handed over block by block."""

    attention_backend: Literal["native", "cudnn", "flash", "flash3", "sage"] = "native"
    """Self-attention's kernels. One that can't run here falls back to native, with a warning in the log."""

    compile_blocks: bool = False
    """Compile the experts' blocks at the start: slower to be ready, faster a step. Falls back as above."""

    batch_invariant: bool = False
    """A video's bits never depend on which other jobs were in flight with it."""

    lease_seconds: float = Field(45.0, ge=1, le=3600)
    """A worker that stays silent for so long loses its jobs."""

    heartbeat_seconds: float = Field(10.0, ge=0.1, le=600)
    stall_seconds: float = Field(300.0, ge=1)
    """A worker whose engine does not finish a step for so long counts as hung: its lease is left to run out."""

    max_attempts: int = Field(3, ge=1, le=100)
    """How often a job is started before it fails because its workers die."""

    max_queue_depth: int = Field(1000, ge=1)
    """Jobs that wait; a request beyond it gets 503."""

    retention_seconds: int = Field(7 * 24 * 3600, ge=60)
    """How long a finished video, its record and its cache entry are kept."""

    link_seconds: int = Field(3600, ge=60, le=3600)
    """How long a link to a file works."""

    link_secret: SecretStr | None = None
    """Signs links to files. Absent: made once and kept in data_dir; set it where gateways share no disk."""

    worker_metrics_port: int = Field(0, ge=0, le=65535)
    """Where a worker serves /metrics, on `host`; 0 is off."""

    log_format: Literal["auto", "json", "console"] = "auto"
    """auto: console on a terminal, JSON elsewhere."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def load(cls) -> Self:
        """Read the environment. Raises SettingsError, which names every wrong variable and what is legal."""
        _refuse_unknown(cls, os.environ)
        try:
            settings = cls()
        except ValidationError as e:
            raise SettingsError(_explain(cls, e)) from e
        settings.check()
        return settings

    def check(self) -> None:
        """What no single field can say. Raises SettingsError."""
        if self.heartbeat_seconds * 2 > self.lease_seconds:
            raise SettingsError(
                f"WANSERVE_HEARTBEAT_SECONDS is {self.heartbeat_seconds:g} and WANSERVE_LEASE_SECONDS "
                f"{self.lease_seconds:g}: a lease must last at least two heartbeats."
            )
        if (self.s3_access_key is None) != (self.s3_secret_key is None):
            raise SettingsError("Set S3_ACCESS_KEY and S3_SECRET_KEY together, or neither.")
        if self.link_secret is not None and len(self.link_secret.get_secret_value()) < 16:
            raise SettingsError("WANSERVE_LINK_SECRET is too short: give at least 16 characters.")

    @property
    def uses_s3(self) -> bool:
        """False: objects lie in a folder under data_dir."""
        return self.s3_endpoint is not None or self.s3_bucket is not None

    @property
    def bucket(self) -> str:
        return self.s3_bucket or "wanserve"

    def link_key(self) -> bytes:
        """The secret that signs links; made on first use, readable by the owner alone."""
        if self.link_secret is not None:
            return self.link_secret.get_secret_value().encode()
        file = self.data_dir / "link.secret"
        try:
            return kept_secret(file).encode()
        except OSError as e:
            raise SettingsError(
                f"{file} can't be used ({e.strerror}): set WANSERVE_LINK_SECRET or another WANSERVE_DATA_DIR."
            ) from e

    @property
    def more_aliases(self) -> tuple[str, ...]:
        """The names in model_aliases."""
        return tuple(name.strip() for name in self.model_aliases.split(",") if name.strip())

    def with_changes(self, **changes: object) -> Self:
        """A copy with other values, checked again. Raises SettingsError."""
        try:
            settings = type(self)(**{**self.model_dump(exclude_unset=True), **changes})
        except ValidationError as e:
            raise SettingsError(_explain(type(self), e)) from e
        settings.check()
        return settings

    def child_environment(self) -> dict[str, str]:
        """This process' environment with these settings in it, for a child of ours."""
        return {**os.environ, **self.to_environment()}

    def to_environment(self) -> dict[str, str]:
        """Variables from which load() makes equal settings."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {variable_of(type(self), name): _text(value) for name, value in values.items() if value is not None}


def variable_of(settings: type[Settings], field: str) -> str:
    """The environment variable that sets a field."""
    match settings.model_fields[field].validation_alias:
        case AliasChoices(choices=[str(variable), *_]):
            return variable
        case _:
            return PREFIX + field.upper()


def _refuse_unknown(settings: type[Settings], environment: Mapping[str, str]) -> None:
    known = {variable_of(settings, field) for field in settings.model_fields}
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    if unknown:
        legal = ", ".join(sorted(name for name in known if name.startswith(PREFIX)))
        raise SettingsError(f"Unknown setting {', '.join(unknown)}. Known are: {legal}.")


def _explain(settings: type[Settings], error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        variable = _variable_at(settings, problem["loc"])
        # An address may hold a password.
        is_secret = "SECRET" in variable or "KEY" in variable or "@" in str(problem["input"])
        given = "" if is_secret else f" ({problem['input']!r} was given)"
        lines.append(f"{variable}: {problem['msg']}{given}")
    return "Wrong settings. " + "; ".join(lines) + "."


def _variable_at(settings: type[Settings], location: tuple[int | str, ...]) -> str:
    """pydantic places an error at the field's name or at its alias, in either case."""
    name = str(location[0])
    is_field = name in settings.model_fields
    return variable_of(settings, name) if is_field else name.upper()


def _text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
