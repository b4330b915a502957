"""Prompts made richer by a language model behind an OpenAI-compatible chat endpoint; else the prompt as it was.

Extensions are remembered in Redis: the same prompt becomes the same video again, and a repeated request asks nobody.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError
from redis import Redis

from service.jobs.connection import redis_errors
from service.logs import get_logger
from service.loopback import is_loopback
from service.settings import Settings

MAX_AT_ONCE = 8
"""Requests of one gateway that wait for the endpoint; the next one goes on with its own prompt."""

MAX_ANSWER_BYTES = 64 * 1024
MAX_CHARACTERS = 2000
REMEMBERED_SECONDS = 7 * 24 * 3600
INSTRUCTION = (
    "You write prompts for a text-to-video model. Rewrite the user's prompt as one paragraph that describes the same "
    "scene in concrete detail: subject, action, surroundings, light, camera. Keep every fact, name, colour and number "
    "of the original; add no story, no text on screen, no people who are not there. Answer in the language of the "
    "prompt, with the paragraph alone, in at most 120 words."
)

log = get_logger(__name__)


class _Message(BaseModel):
    content: str


class _Choice(BaseModel):
    message: _Message


class _Answer(BaseModel):
    choices: list[_Choice]


class _NoExtension(Exception):
    """The endpoint gave none; the message says why."""


class PromptExtension:
    """Takes a client from connection.connect(), which the caller closes. Used by many threads; close() it."""

    def __init__(self, redis: Redis, settings: Settings, *, on_outcome: Callable[[str], object]) -> None:
        """settings: with prompt_extension_url. on_outcome: told "extended", "remembered" or "failed"."""
        url = settings.prompt_extension_url
        assert url is not None
        key = settings.prompt_extension_key
        self._redis = redis
        self._url = f"{url.rstrip('/')}/chat/completions"
        self._model = settings.prompt_extension_model
        self._timeout_seconds = settings.prompt_extension_timeout_seconds
        self._on_outcome = on_outcome
        self._places = threading.BoundedSemaphore(MAX_AT_ONCE)
        self._http = httpx.Client(
            headers={} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"},
            timeout=self._timeout_seconds,
            limits=httpx.Limits(max_connections=MAX_AT_ONCE),
            # A proxy can't reach this machine's own loopback.
            trust_env=not is_loopback(urlsplit(url).hostname or ""),
        )

    def close(self) -> None:
        self._http.close()

    def extend(self, prompt: str) -> str | None:
        """None: go on with the prompt as it is. Raises QueueUnavailable."""
        remembered = self._recall(prompt)
        if remembered is not None:
            self._on_outcome("remembered")
            return remembered
        try:
            extended = self._asked(prompt)
        except (_NoExtension, httpx.HTTPError) as e:
            self._on_outcome("failed")
            log.warning("prompt_not_extended", reason=str(e) or type(e).__name__)
            return None
        self._on_outcome("extended")
        return self._remember(prompt, extended)

    def _asked(self, prompt: str) -> str:
        """Raises _NoExtension and HTTPError."""
        if not self._places.acquire(blocking=False):
            raise _NoExtension(f"{MAX_AT_ONCE} prompts are being extended already.")
        try:
            return _text_in(self._answer(prompt))
        finally:
            self._places.release()

    def _answer(self, prompt: str) -> bytes:
        """Bounded in time as a whole and in size: a server that drips must not hold a thread."""
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": prompt}],
            "temperature": 0,
        }
        deadline = time.monotonic() + self._timeout_seconds
        answer = b""
        with self._http.stream("POST", self._url, json=body) as reply:
            if reply.status_code != 200:
                raise _NoExtension(f"The endpoint answered {reply.status_code}.")
            # As they come: chunks of a size of ours would be waited for.
            for chunk in reply.iter_raw():
                answer += chunk
                if len(answer) > MAX_ANSWER_BYTES:
                    raise _NoExtension(f"The endpoint answered more than {MAX_ANSWER_BYTES} bytes.")
                if time.monotonic() > deadline:
                    raise _NoExtension(f"The endpoint took longer than {self._timeout_seconds:g} s.")
        return answer

    @redis_errors()
    def _recall(self, prompt: str) -> str | None:
        return cast(str | None, self._redis.get(self._key(prompt)))

    @redis_errors()
    def _remember(self, prompt: str, extended: str) -> str:
        """What is remembered: of two that asked at once the first one's."""
        key = self._key(prompt)
        self._redis.set(key, extended, nx=True, ex=REMEMBERED_SECONDS)
        return cast(str | None, self._redis.get(key)) or extended

    def _key(self, prompt: str) -> str:
        asked = json.dumps([self._url, self._model, INSTRUCTION, prompt])
        return f"wanserve:extension:{hashlib.sha256(asked.encode()).hexdigest()}"


def _text_in(answer: bytes) -> str:
    """Raises _NoExtension."""
    try:
        parsed = _Answer.model_validate_json(answer)
    except ValidationError as e:
        raise _NoExtension("The endpoint does not answer as a chat endpoint does.") from e
    text = parsed.choices[0].message.content.strip() if parsed.choices else ""
    if not 0 < len(text) <= MAX_CHARACTERS:
        raise _NoExtension(f"The endpoint answered {len(text)} characters: 1 to {MAX_CHARACTERS} make a prompt.")
    return text
