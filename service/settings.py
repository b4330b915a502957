"""All settings, read once from the environment. Nobody else reads os.environ."""

import os
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import SettingsError
from service.kept_secret import kept_secret
from service.moderation.categories import CATEGORIES, Category

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


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """CIDRs between commas. Raises ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def _ports(text: str) -> tuple[range, ...]:
    """Ports and ranges of them between commas: 443,8000-8999. Raises ValueError."""
    pairs = [part.partition("-") for part in text.split(",")]
    ports = tuple(range(int(first), int(last or first) + 1) for first, _, last in pairs)
    if not all(1 <= ports_of_one.start < ports_of_one.stop <= 65536 for ports_of_one in ports):
        raise ValueError("ports lie between 1 and 65535, the lower one first: 443,8000-8999")
    return ports


def _labels(text: str) -> dict[str, Category]:
    """Categories by label, of LABEL=CATEGORY between commas. Raises ValueError."""
    pairs = [part.rpartition("=") for part in text.split(",") if part.strip()]
    if not all(label.strip() and category.strip() in CATEGORIES for label, _, category in pairs):
        raise ValueError(f"give LABEL=CATEGORY between commas, where a category is one of {', '.join(CATEGORIES)}")
    return {label.strip(): cast(Category, category.strip()) for label, _, category in pairs}


def _checked_by(parse: Callable[[str], object]) -> AfterValidator:
    """A field that stays text, so that a child process can be given it, but must be legal."""

    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


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

    audit_file: Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())] | None = None
    """A JSON line for every call that changes something. Absent: audit.jsonl in data_dir; /dev/null: none."""

    audit_prompts: bool = False
    """Write prompts into it too."""

    prompt_extension_url: HttpAddress | None = None
    """An OpenAI-compatible API, up to /v1, that makes prompts richer. Absent: nobody can ask for `extend_prompt`."""

    prompt_extension_model: str = Field("", max_length=200)
    """The language model there."""

    prompt_extension_key: SecretStr | None = None
    prompt_extension_timeout_seconds: float = Field(10.0, ge=0.5, le=60)
    """Then a video is made of the prompt as it is."""

    moderation_url: HttpAddress | None = None
    """An OpenAI-compatible API, up to /v1, whose /moderations reads prompts beside the filter's own classifier."""

    moderation_folder: Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())] | None = None
    """A text classification model as transformers saves it, exported to ONNX, that reads prompts in the same way."""

    moderation_labels: Annotated[str, _checked_by(_labels)] = ""
    """What its labels mean where they are not named as our categories: toxic=hate,gore=violence/graphic."""

    moderation_model: str = Field("", max_length=200)
    moderation_key: SecretStr | None = None
    moderation_timeout_seconds: float = Field(3.0, ge=0.1, le=60)
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

    c2pa_certificate: Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())] | None = None
    """The signer's certificate and its issuers', PEM. Absent: made for development and kept in data_dir/c2pa."""

    c2pa_key: Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())] | None = None
    """Its private key, PEM, not encrypted."""

    provenance_secret: SecretStr | None = None
    """Hashes prompts for files. Absent: made once and kept in data_dir; set it where workers share no disk."""

    webhook_allowed_networks: Annotated[str, _checked_by(_networks)] = ""
    """Networks, separated by commas, that webhooks may go to beside the public internet: 10.1.0.0/16, say."""

    webhook_allowed_ports: Annotated[str, _checked_by(_ports)] = "80,443"
    """Ports and ranges of them, separated by commas, that webhooks may go to: 443,8000-8999, say."""

    webhook_timeout_seconds: float = Field(15.0, ge=1, le=60)
    """For one attempt as a whole: name, connection, reply."""

    worker_metrics_port: int = Field(0, ge=0, le=65535)
    """Where a worker serves /metrics, on `host`; 0 is off."""

    server: HttpAddress | None = None
    """Whom the command line's `videos` talks to. Absent: the gateway at host and port."""

    api_key: SecretStr | None = None
    """The key that it shows there."""

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
        if self.api_key is not None and not re.fullmatch(r"[!-~]+", self.api_key.get_secret_value()):
            raise SettingsError("WANSERVE_API_KEY holds characters that no key has.")
        if self.prompt_extension_url is not None and not self.prompt_extension_model:
            raise SettingsError("Set WANSERVE_PROMPT_EXTENSION_MODEL too: the language model to ask there.")
        if self.moderation_url is not None and self.moderation_folder is not None:
            raise SettingsError("Set WANSERVE_MODERATION_URL or WANSERVE_MODERATION_FOLDER, not both.")
        if (self.c2pa_certificate is None) != (self.c2pa_key is None):
            raise SettingsError("Set WANSERVE_C2PA_CERTIFICATE and WANSERVE_C2PA_KEY together, or neither.")
        for field in ("link_secret", "key_pepper", "provenance_secret"):
            secret: SecretStr | None = getattr(self, field)
            if secret is not None and len(secret.get_secret_value()) < 16:
                raise SettingsError(f"{variable_of(type(self), field)} is too short: give at least 16 characters.")

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
        return _labels(self.moderation_labels)

    @property
    def frame_limit(self) -> float | None:
        """frame_check as a number; None: frames are not looked at."""
        return None if self.frame_check == "off" else self.frame_check

    @property
    def webhook_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks in webhook_allowed_networks."""
        return _networks(self.webhook_allowed_networks)

    @property
    def webhook_ports(self) -> tuple[range, ...]:
        """The ports in webhook_allowed_ports."""
        return _ports(self.webhook_allowed_ports)

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
        named = ", ".join(f"{name}{_nearest(name, known)}" for name in unknown)
        raise SettingsError(f"Unknown setting {named}. Known are: {legal}.")


def _nearest(name: str, known: set[str]) -> str:
    """Words that name the variable that was likeliest meant; empty when none is near."""
    # The prefix, which all share, would make everything look near.
    bare = {variable.removeprefix(PREFIX): variable for variable in known}
    near = get_close_matches(name.removeprefix(PREFIX), sorted(bare), n=1, cutoff=0.75)
    return f" (did you mean {bare[near[0]]}?)" if near else ""


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
