"""Signing secrets by Standard Webhooks: whsec_ and 24 to 64 random bytes in base64. Pure."""

import secrets
from base64 import b64decode, b64encode

from service.errors import InvalidRequest

PREFIX = "whsec_"
NUM_BYTES = 32
MIN_BYTES, MAX_BYTES = 24, 64


def new_secret() -> str:
    return PREFIX + b64encode(secrets.token_bytes(NUM_BYTES)).decode()


def checked_secret(text: str, *, param: str) -> str:
    """The text itself. Raises InvalidRequest, which never repeats it."""
    try:
        key = b64decode(text.removeprefix(PREFIX), validate=True)
    except ValueError:
        key = b""
    if not text.startswith(PREFIX) or not MIN_BYTES <= len(key) <= MAX_BYTES:
        raise InvalidRequest(
            f"{param} must be {PREFIX} followed by {MIN_BYTES} to {MAX_BYTES} random bytes in base64.", param=param
        )
    return text


def hint_of(secret: str) -> str:
    """Enough to tell one's own secrets apart."""
    return f"{PREFIX}…{secret[-4:]}"
