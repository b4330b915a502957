"""Logs: one shape for our lines and libraries', and never a prompt."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from service.logs import configure_logs, get_logger
from service.settings import Settings


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_json_lines_carry_event_level_time_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Settings(log_format="json"), process="worker")

    get_logger("x").info("job_completed", job_id="job_1", seconds=1.5)

    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"], line["process"]) == ("job_completed", "info", "worker")
    assert (line["job_id"], line["seconds"]) == ("job_1", 1.5)
    assert line["timestamp"].endswith("Z")


def test_prompts_and_secrets_are_taken_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Settings(log_format="json"), process="gateway")

    get_logger("x").warning("refused", prompt="a red ball", token="t0ken", code="invalid_request")

    said = capsys.readouterr().err
    assert "red ball" not in said
    assert "t0ken" not in said
    assert "invalid_request" in said


def test_a_librarys_line_has_the_same_shape(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Settings(log_format="json"), process="gateway")

    logging.getLogger("somebody.else").error("it broke: %s", "badly")

    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"], line["process"]) == ("it broke: badly", "error", "gateway")


def test_an_exception_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Settings(log_format="json"), process="worker")

    try:
        raise ValueError("bad weights")
    except ValueError:
        get_logger("x").exception("job_failed")

    (line,) = capsys.readouterr().err.splitlines()
    assert "bad weights" in json.loads(line)["exception"]


def test_the_level_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Settings(log_format="console", log_level="warning"), process="up")

    get_logger("x").info("quiet")
    get_logger("x").warning("loud", port=8000)

    said = capsys.readouterr().err
    assert "quiet" not in said
    assert "loud" in said


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_no_locals(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Settings(log_format=log_format), process="worker")

    try:
        fail_with_private_locals(prompt="a red " + "ball", password="hunter" + "2")
    except ValueError:
        get_logger("x").exception("job_raised")

    said = capsys.readouterr().err
    assert "ValueError: bad weights" in said
    assert "a red ball" not in said
    assert "hunter2" not in said


def fail_with_private_locals(*, prompt: str, password: str) -> None:
    if prompt and password:
        raise ValueError("bad weights")
