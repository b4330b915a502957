"""Structured logs on standard error: an event name and fields. Never a prompt, never a secret."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from service.settings import Settings

NEVER_LOGGED = frozenset({"prompt", "negative_prompt", "body", "authorization", "secret", "token", "password"})


def configure_logs(settings: Settings, *, process: str) -> None:
    """Call once, first thing in a process; process is "gateway", "worker" or "up"."""
    is_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_private_fields,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(process=process)
    _catch_foreign_logs(settings, shared, is_json=is_json)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """log = get_logger(__name__); log.info("job_completed", job_id=…, seconds=…)"""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger


def _catch_foreign_logs(settings: Settings, shared: list[structlog.typing.Processor], *, is_json: bool) -> None:
    """Libraries log through `logging`; give their lines the same shape."""
    renderers: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        *([structlog.processors.format_exc_info] if is_json else []),
        structlog.processors.JSONRenderer(ensure_ascii=False) if is_json else _console_renderer(),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=renderers))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in ("botocore", "boto3", "urllib3", "s3transfer", "httpx", "httpcore", "rq"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _console_renderer() -> structlog.typing.Processor:
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        pad_event_to=28,
        # The prettier ones show the locals of every frame: prompts and passwords.
        exception_formatter=structlog.dev.plain_traceback,
    )


def _without_private_fields(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in NEVER_LOGGED & event.keys():
        event[name] = "[not logged]"
    return event
