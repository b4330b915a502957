"""Brands' logos in storage, under the SHA-256 of their pixels' file."""

import hashlib
import io

from service.logo import clean_logo
from service.storage import Storage


def keep_logo(storage: Storage, upload: bytes) -> str:
    """The SHA-256, in hex, by which a label names it. Raises InvalidRequest for what is no logo, and Unavailable."""
    logo = clean_logo(upload)
    digest = hashlib.sha256(logo).hexdigest()
    storage.put_stream(logo_key(digest), io.BytesIO(logo), content_type="image/png")
    return digest


def read_logo(storage: Storage, digest: str) -> bytes:
    """A PNG file. Raises ObjectNotFound and Unavailable."""
    return b"".join(storage.read(logo_key(digest)))


def logo_key(digest: str) -> str:
    """Of the object. Videos of years may name it: nothing removes it."""
    return f"logos/{digest}.png"
