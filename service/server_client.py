"""A gateway over HTTP, for the command line: questions, answers, files, and the server's own words where it refuses."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from service.errors import RemoteError, ServerUnreachable, SettingsError
from service.loopback import is_loopback

TIMEOUT_SECONDS = 30.0
AWAY = (502, 503, 504)
"""Statuses of a server that may be back soon."""

Reply = TypeVar("Reply", bound=BaseModel)
OnBytes = Callable[[int, int | None], None]
"""Told bytes so far, and in all where that is known."""


class ServerClient:
    """Use it as a context. Raises SettingsError for what is no address.

    Every method raises ServerUnreachable, and RemoteError with the server's own words.
    """

    def __init__(self, server: str, *, api_key: str | None) -> None:
        self._server = server
        try:
            self._http = httpx.Client(
                base_url=f"{server}/v1",
                headers={} if api_key is None else {"Authorization": f"Bearer {api_key}"},
                timeout=TIMEOUT_SECONDS,
                # A proxy can't reach this machine's own loopback.
                trust_env=not is_loopback(urlsplit(server).hostname or ""),
            )
        except (httpx.InvalidURL, ValueError) as e:
            raise SettingsError(f"{server} is no address of a server ({e}).") from e

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def ask(
        self,
        kind: type[Reply],
        method: str,
        path: str,
        *,
        json: dict[str, Any] | None = None,
        params: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        with self._answering():
            answer = self._http.request(method, path, json=json, params=params, headers=headers)
        return self._read(kind, answer)

    def upload(self, kind: type[Reply], path: str, file: IO[bytes], *, name: str, fields: dict[str, str]) -> Reply:
        """One file in a form, streamed from disk."""
        with self._answering():
            answer = self._http.post(path, files={"file": (name, file)}, data=fields)
        return self._read(kind, answer)

    def fetch(self, path: str, file: Path, *, on_bytes: OnBytes, params: dict[str, str] | None = None) -> None:
        """Write what lies there into the file, whole or not at all. Raises OSError where it can't be written."""
        partial = file.with_name(f".{file.name}.part")
        try:
            with self._answering(), self._http.stream("GET", path, params=params) as answer:
                self._check(answer)
                total = int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else None
                with partial.open("wb") as output:
                    for chunk in answer.iter_bytes():
                        output.write(chunk)
                        on_bytes(output.tell(), total)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)

    def _read(self, kind: type[Reply], answer: httpx.Response) -> Reply:
        self._check(answer)
        try:
            return kind.model_validate_json(answer.content)
        except ValidationError as e:
            raise RemoteError(f"{self._server} does not answer as a video service does.") from e

    def _check(self, answer: httpx.Response) -> None:
        if answer.status_code == 200:
            return
        answer.read()
        message = f"{self._server} answered {answer.status_code}: {_message_in(answer)}"
        raise ServerUnreachable(message) if answer.status_code in AWAY else RemoteError(message)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as e:
            reason = str(e) or type(e).__name__
            raise ServerUnreachable(
                f"{self._server} does not answer ({reason}). Is it up, and is --server or WANSERVE_SERVER right?"
            ) from e


def quoted(name: str) -> str:
    """A caller's id as one part of a path."""
    return quote(name, safe="")


def _message_in(answer: httpx.Response) -> str:
    """The server's own words, whoever wrote the server."""
    try:
        content = answer.json()
        error = content.get("error") if isinstance(content, dict) else None
        message = error.get("message") if isinstance(error, dict) else None
    except ValueError:
        message = None
    return message if isinstance(message, str) else answer.reason_phrase
