"""docs/api.md names every endpoint, status, error code and way to fail."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from model.errors import EngineError
from service.errors import ServiceError, StartupError
from tests.service.api.test_openapi import operations

ROOT = Path(__file__).parents[3]
DOCS = (ROOT / "docs" / "api.md").read_text()


def family(kind: type[Exception]) -> Iterator[type[Exception]]:
    for child in kind.__subclasses__():
        yield child
        yield from family(child)


@pytest.mark.parametrize("error", [ServiceError, *family(ServiceError)], ids=lambda error: error.__name__)
def test_every_error_code_is_there_with_its_status(error: type[ServiceError]) -> None:
    # A process that can't start replies to nobody.
    rows = [line for line in DOCS.splitlines() if re.search(rf"\b{error.code}\b", line)]
    assert rows
    assert issubclass(error, StartupError) or any(row.startswith(f"| {error.http_status} |") for row in rows)


@pytest.mark.parametrize("error", list(family(EngineError)), ids=lambda error: error.__name__)
def test_every_way_in_which_the_engine_fails_is_there(error: type[EngineError]) -> None:
    assert re.search(rf"\b{error.code}\b", DOCS)


def test_every_code_that_scripts_and_gateway_write_is_there() -> None:
    sources = [*ROOT.glob("service/jobs/**/*.lua"), *ROOT.glob("service/**/*.py"), *ROOT.glob("worker/**/*.py")]
    pattern = r"""(?:_outcome\((?:'failed', |'expired', |'cancelled', )?'|\.failed\("|code=")([a-z_]+)"""
    codes = {code for source in sources for code in re.findall(pattern, source.read_text())}

    assert {"deadline_exceeded", "attempts_exhausted", "job_removed", "method_not_allowed"} <= codes
    assert [code for code in sorted(codes) if not re.search(rf"\b{code}\b", DOCS)] == []


def test_every_endpoint_is_there_with_curl_and_python(bare_client: httpx.Client) -> None:
    document = bare_client.get("/openapi.json").json()
    assert list(operations(document))
    for path, methods in document["paths"].items():
        for method in methods:
            name = f"{method.upper()} {path}"
            assert name in DOCS
            if path.startswith("/v1/"):
                section = DOCS.partition(f"### {name}\n")[2].partition("###")[0]
                assert "curl" in section, name
                assert "```python" in section, name


def test_every_status_of_the_document_is_in_the_table(bare_client: httpx.Client) -> None:
    document = bare_client.get("/openapi.json").json()
    statuses = {status for operation in operations(document) for status in operation["responses"] if status >= "400"}

    assert [status for status in sorted(statuses) if f"\n| {status} |" not in DOCS] == []
