"""All settings, read once from the environment. Nobody else reads os.environ."""

import os
import re
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.environment import (
    FILE,
    PREFIX,
    explained,
    read_files,
    refuse_unknown,
    text_of,
    variable_of,
    variables_by_file,
)
from service.errors import SettingsError
from service.kept_secret import kept_secret
from service.moderation.categories import Category
from service.setting_types import AbsolutePath, HttpAddress, RedisAddress, checked_by, labels, networks, plain, ports


class Settings(BaseSettings):
    """One process' settings. A field is WANSERVE_<FIELD>, unless its own text names another variable."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", validate_default=True
    )

    data_dir: AbsolutePath = Path("data")
    """Everything on disk: embedded servers, keys, fallback objects."""

    host: str = "127.0.0.1"
    """Where gateway and worker metrics listen. On anything but loopback an API key is asked for."""

    port: int = Field(8000, ge=1, le=65535)
    """The gateway's."""
    public_url: HttpAddress | None = None
    """Where clients reach the gateway, for links in records; else the request's own address."""

    redis_url: RedisAddress | None = plain("redis_url")
    """REDIS_URL. Absent: `wanserve up` starts an embedded server."""

    s3_endpoint: HttpAddress | None = plain("s3_endpoint")
    """S3_ENDPOINT. Absent, with no S3_BUCKET either: embedded server, or a folder where none can run."""

    s3_public_endpoint: HttpAddress | None = plain("s3_public_endpoint")
    """S3_PUBLIC_ENDPOINT: the store as clients reach it; turns presigned links on."""

    s3_bucket: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        validation_alias=AliasChoices("S3_BUCKET", "s3_bucket"),
    )
    """S3_BUCKET; created when absent."""

    s3_access_key: str | None = plain("s3_access_key")
    """S3_ACCESS_KEY. Absent: boto3's own ways (instance role, AWS_ variables)."""

    s3_secret_key: SecretStr | None = plain("s3_secret_key")
    """S3_SECRET_KEY."""

    s3_region: str = plain("s3_region", "us-east-1")
    """S3_REGION."""

    cdn_base_url: HttpAddress | None = plain("cdn_base_url")
    """CDN_BASE_URL: the bucket's content behind a CDN; wins over every other kind of link."""

    checkpoint: str = "embedded"
    """A diffusers folder, or "embedded"."""

    model_aliases: str = Field("", pattern=r"^\s*([\w./:-]+(\s*,\s*[\w./:-]+)*)?\s*$")
    """Names, separated by commas, that a worker's model answers to beside its own: sora-2, say."""

    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """auto, cpu, mps, cuda or cuda:N."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the weights and the arithmetic. auto: bfloat16 on a GPU that has it, float32 on a CPU."""
    residency: Literal["auto", "both", "swap", "rolling"] = "auto"
    """Where the experts' weights lie: both on the device, or one that is swapped or handed over block by block."""

    attention_backend: Literal["native", "cudnn", "flash", "flash3", "sage"] = "native"
    """Self-attention's kernels. One that can't run here falls back to native, with a warning in the log."""

    cpu_threads: int | None = Field(None, ge=1, le=1024)
    """Of one worker's arithmetic on CPUs. Absent: PyTorch's own choice, all cores."""

    compile_blocks: bool = False
    """Compile the experts' blocks at the start: slower to be ready, faster a step. Falls back as above."""

    max_jobs_in_flight: int = Field(9, ge=1, le=64)
    """Of one worker: all but one may share forwards, the last place is for a job that preempts them."""

    token_budget: int = Field(8192, ge=1)
    """Of one forward, rows x tokens: up to it one more job in company costs hardly any time."""

    batch_invariant: bool = False
    """A video's bits never depend on which other jobs were in flight with it."""

    lease_seconds: float = Field(45.0, ge=1, le=3600)
    """A worker that stays silent for so long loses its jobs."""

    heartbeat_seconds: float = Field(10.0, ge=0.1, le=600)
    """How often a worker renews its leases and says that it lives."""
    checkpoint_seconds: float = Field(30.0, ge=0, le=3600)
    """How often the state of a running job is saved, for another worker to go on from; 0 after every step."""

    preview_seconds: float = Field(2.0, ge=0, le=3600)
    """How often a running job's event stream gets a small picture of it; 0: never."""

    stall_seconds: float = Field(300.0, ge=1)
    """A worker whose engine does not finish a step for so long counts as hung: its lease is left to run out."""

    max_attempts: int = Field(3, ge=1, le=100)
    """How often a job is started before it fails because its workers die."""

    max_queue_depth: int = Field(1000, ge=1)
    """Jobs that wait; a request beyond it gets 503."""

    cache_scope: Literal["tenant", "global"] = "tenant"
    """Whose earlier results answer an equal request."""

    cache_gigabytes: float = Field(20.0, ge=0)
    """Of 10**9 bytes: files that the cache keeps when no video refers to them any more; 0 is off."""

    cache_seconds: int = Field(7 * 24 * 3600, ge=1)
    """How long a result may answer equal requests."""

    retention_seconds: int = Field(7 * 24 * 3600, ge=60)
    """How long a finished video and its record are kept."""

    file_seconds: int = Field(30 * 24 * 3600, ge=3600)
    """How long uploaded files, ended batches and what they wrote are kept."""

    batch_jobs: int = Field(100, ge=1, le=10_000)
    """Of one batch: requests that wait or run at once."""

    link_seconds: int = Field(3600, ge=60, le=3600)
    """How long a link to a file works."""

    link_secret: SecretStr | None = None
    """Signs links to files. Absent: made once and kept in data_dir; set it where gateways share no disk."""

    require_keys: bool = False
    """Ask for an API key on loopback too: behind a proxy, say. Any other host asks for one always."""

    key_pepper: SecretStr | None = None
    """Goes into every API key's hash. Absent: made once and kept in data_dir; set it where gateways share no disk."""

    max_event_streams: int = Field(2000, ge=1)
    """Open at once at one gateway; a request beyond it gets 429."""

    max_event_streams_by_tenant: int = Field(1000, ge=1)
    """Of one tenant, as above."""

    audit_file: AbsolutePath | None = None
    """A JSON line for every call that changes something. Absent: audit.jsonl in data_dir; /dev/null: none."""

    audit_prompts: bool = False
    """Write prompts into it too."""

    prompt_extension_url: HttpAddress | None = None
    """An OpenAI-compatible API, up to /v1, that makes prompts richer. Absent: nobody can ask for `extend_prompt`."""

    prompt_extension_model: str = Field("", max_length=200)
    """The language model there."""

    prompt_extension_key: SecretStr | None = None
    """The key for it."""
    prompt_extension_timeout_seconds: float = Field(10.0, ge=0.5, le=60)
    """Then a video is made of the prompt as it is."""

    moderation_url: HttpAddress | None = None
    """An OpenAI-compatible API, up to /v1, whose /moderations reads prompts beside the filter's own classifier."""

    moderation_folder: AbsolutePath | None = None
    """A text classification model as transformers saves it, exported to ONNX, that reads prompts in the same way."""

    moderation_labels: Annotated[str, checked_by(labels)] = ""
    """What its labels mean where they are not named as our categories: toxic=hate,gore=violence/graphic."""

    moderation_model: str = Field("", max_length=200)
    """The model to name there; empty: none is named."""
    moderation_key: SecretStr | None = None
    """The key for it."""
    moderation_timeout_seconds: float = Field(3.0, ge=0.1, le=60)
    """For one prompt, at that API or in that folder."""
    moderation_on_failure: Literal["refuse", "pass"] = "refuse"
    """What becomes of a prompt while it does not answer: 503, or the filter's own word alone."""

    frame_check: Literal["off"] | Annotated[float, Field(gt=0, le=1)] = 0.8
    """From this score on, 0 to 1, a finished video's frames make a person look at it before anybody gets it; or off."""

    review_approvals: int = Field(1, ge=1, le=2)
    """How many people must approve what is held for review."""

    review_seconds: float = Field(24 * 3600, ge=1)
    """So long a video waits for a reviewer."""

    review_timeout: Literal["reject", "approve"] = "reject"
    """What becomes of it then."""

    content_producer: str = Field("wanserve", min_length=1, max_length=100)
    """Whom the label in every file names as its producer: a company's name or its code."""

    visible_label: Literal["always", "default", "on_request", "off"] = "default"
    """Whether viewers see that a video is AI-generated: default: unless a request says no. Tenants may differ."""

    provenance_records: Literal["keep", "with_files", "off"] = "keep"
    """Who asked for a file, for what and when, in object storage: kept for good, or as long as the file, or not."""

    watermark: Literal["on", "off"] = "on"
    """The imperceptible mark in the pictures of every finished video, by which its record is found."""

    watermark_secret: SecretStr | None = None
    """Makes and reads marks. Absent: made once and kept in data_dir; set it where gateway and workers share no disk."""

    watermark_old_secrets: SecretStr | None = None
    """Separated by commas: secrets from before, whose marks are still read."""

    c2pa_certificate: AbsolutePath | None = None
    """The signer's certificate and its issuers', PEM. Absent: made for development and kept in data_dir/c2pa."""

    c2pa_key: AbsolutePath | None = None
    """Its private key, PEM, not encrypted."""

    c2pa_key_pem: SecretStr | None = None
    """The key itself instead, for those who keep secrets in the environment."""

    c2pa_sign_command: str | None = Field(None, min_length=1, max_length=2000)
    """A command that signs instead: bytes on its standard input, the signature on its standard output. A KMS, say."""

    c2pa_timestamp_url: HttpAddress | None = None
    """A timestamp authority (RFC 3161) that vouches for the time of signing. Absent: none is asked."""

    provenance_secret: SecretStr | None = None
    """Hashes prompts for files. Absent: made once and kept in data_dir; set it where workers share no disk."""

    webhook_allowed_networks: Annotated[str, checked_by(networks)] = ""
    """Networks, separated by commas, that webhooks may go to beside the public internet: 10.1.0.0/16, say."""

    webhook_allowed_ports: Annotated[str, checked_by(ports)] = "80,443"
    """Ports and ranges of them, separated by commas, that webhooks may go to: 443,8000-8999, say."""

    webhook_timeout_seconds: float = Field(15.0, ge=1, le=60)
    """For one attempt as a whole: name, connection, reply."""

    worker_metrics_port: int = Field(0, ge=0, le=65535)
    """Where a worker serves /metrics, on `host`; 0 is off."""

    otlp_endpoint: HttpAddress | None = None
    """An OpenTelemetry collector (OTLP over HTTP) for traces: http://collector:4318, say. Absent: nothing is traced."""

    prometheus_url: HttpAddress | None = None
    """A Prometheus that scrapes gateways and workers, for the page /status. Absent: the page says so."""

    server: HttpAddress | None = None
    """Whom the command line's `videos` talks to. Absent: the gateway at host and port."""

    api_key: SecretStr | None = None
    """The key that it shows there."""

    log_format: Literal["auto", "json", "console"] = "auto"
    """auto: console on a terminal, JSON elsewhere."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is written from."""

    @classmethod
    def load(cls) -> Self:
        """Read the environment, and files that it names. Raises SettingsError, which names what is wrong and legal."""
        refuse_unknown(cls, os.environ)
        from_files = read_files(cls, os.environ)
        try:
            settings = cls(**from_files)
        except ValidationError as e:
            raise SettingsError(explained(cls, e)) from e
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
        if self.api_key is not None and not re.fullmatch(r"[!-~]+", self.api_key.get_secret_value()):
            raise SettingsError("WANSERVE_API_KEY holds characters that no key has.")
        if self.prompt_extension_url is not None and not self.prompt_extension_model:
            raise SettingsError("Set WANSERVE_PROMPT_EXTENSION_MODEL too: the language model to ask there.")
        if self.moderation_url is not None and self.moderation_folder is not None:
            raise SettingsError("Set WANSERVE_MODERATION_URL or WANSERVE_MODERATION_FOLDER, not both.")
        keys = [self.c2pa_key, self.c2pa_key_pem, self.c2pa_sign_command]
        num_keys = sum(key is not None for key in keys)
        if (self.c2pa_certificate is None) != (num_keys == 0):
            raise SettingsError(
                "Set WANSERVE_C2PA_CERTIFICATE and its key together, or neither: WANSERVE_C2PA_KEY, "
                "WANSERVE_C2PA_KEY_PEM or WANSERVE_C2PA_SIGN_COMMAND."
            )
        if num_keys > 1:
            raise SettingsError(
                "Set one of WANSERVE_C2PA_KEY, WANSERVE_C2PA_KEY_PEM and WANSERVE_C2PA_SIGN_COMMAND, not several."
            )
        for field in ("link_secret", "key_pepper", "provenance_secret", "watermark_secret"):
            secret: SecretStr | None = getattr(self, field)
            if secret is not None and len(secret.get_secret_value()) < 16:
                raise SettingsError(f"{variable_of(type(self), field)} is too short: give at least 16 characters.")
        if any(len(secret) < 16 for secret in self._old_watermark_secrets):
            raise SettingsError("WANSERVE_WATERMARK_OLD_SECRETS holds a secret of less than 16 characters.")

    @property
    def uses_s3(self) -> bool:
        """False: objects lie in a folder under data_dir."""
        return self.s3_endpoint is not None or self.s3_bucket is not None

    @property
    def bucket(self) -> str:
        return self.s3_bucket or "wanserve"

    def link_key(self) -> bytes:
        """The secret that signs links; made on first use, readable by the owner alone."""
        return self._secret(self.link_secret, file="link.secret", variable="WANSERVE_LINK_SECRET")

    def pepper(self) -> bytes:
        """The secret in the hashes of API keys; made on first use, readable by the owner alone."""
        return self._secret(self.key_pepper, file="keys.secret", variable="WANSERVE_KEY_PEPPER")

    def provenance_key(self) -> bytes:
        """The secret in the hashes of prompts that files carry; made on first use, readable by the owner alone."""
        return self._secret(self.provenance_secret, file="provenance.secret", variable="WANSERVE_PROVENANCE_SECRET")

    def watermark_keys(self) -> list[bytes]:
        """The secrets that marks are read with; with the first they are made. It is made on first use."""
        current = self._secret(self.watermark_secret, file="watermark.secret", variable="WANSERVE_WATERMARK_SECRET")
        return [current, *(secret.encode() for secret in self._old_watermark_secrets)]

    def known_watermark_keys(self) -> list[bytes]:
        """As watermark_keys(), but none is made."""
        is_known = self.watermark_secret is not None or (self.data_dir / "watermark.secret").exists()
        return self.watermark_keys() if is_known else [secret.encode() for secret in self._old_watermark_secrets]

    @property
    def _old_watermark_secrets(self) -> list[str]:
        given = "" if self.watermark_old_secrets is None else self.watermark_old_secrets.get_secret_value()
        return [secret.strip() for secret in given.split(",") if secret.strip()]

    @property
    def audit_path(self) -> Path:
        """audit_file, or where it lies otherwise."""
        return self.data_dir / "audit.jsonl" if self.audit_file is None else self.audit_file

    @property
    def more_aliases(self) -> tuple[str, ...]:
        """The names in model_aliases."""
        return tuple(name.strip() for name in self.model_aliases.split(",") if name.strip())

    @property
    def moderation_names(self) -> dict[str, Category]:
        """What moderation_labels says."""
        return labels(self.moderation_labels)

    @property
    def frame_limit(self) -> float | None:
        """frame_check as a number; None: frames are not looked at."""
        return None if self.frame_check == "off" else self.frame_check

    @property
    def webhook_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks in webhook_allowed_networks."""
        return networks(self.webhook_allowed_networks)

    @property
    def webhook_ports(self) -> tuple[range, ...]:
        """The ports in webhook_allowed_ports."""
        return ports(self.webhook_allowed_ports)

    def with_changes(self, **changes: object) -> Self:
        """A copy with other values, checked again. Raises SettingsError."""
        try:
            settings = type(self)(**{**self.model_dump(exclude_unset=True), **changes})
        except ValidationError as e:
            raise SettingsError(explained(type(self), e)) from e
        settings.check()
        return settings

    def child_environment(self) -> dict[str, str]:
        """This process' environment with these settings in it, for a child of ours."""
        own = {variable + FILE for variable in variables_by_file(type(self)).values()}
        inherited = {name: value for name, value in os.environ.items() if name not in own}
        return {**inherited, **self.to_environment()}

    def to_environment(self) -> dict[str, str]:
        """Variables from which load() makes equal settings."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {variable_of(type(self), name): text_of(value) for name, value in values.items() if value is not None}

    def _secret(self, given: SecretStr | None, *, file: str, variable: str) -> bytes:
        """The given secret, else the one kept in data_dir. Raises SettingsError."""
        if given is not None:
            return given.get_secret_value().encode()
        path = self.data_dir / file
        try:
            return kept_secret(path).encode()
        except OSError as e:
            raise SettingsError(
                f"{path} can't be used ({e.strerror}): set {variable} or another WANSERVE_DATA_DIR."
            ) from e
