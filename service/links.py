"""Links to finished files: behind a CDN, presigned, or the gateway with a signed token. Made when sent."""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from service.errors import Forbidden
from service.jobs.record import Asset, AssetFile, VideoRecord
from service.settings import Settings
from service.storage import Storage


@dataclass(frozen=True, slots=True)
class Link:
    url: str
    expires_at: float | None
    """Unix seconds; None for a link that lasts as long as the file."""


class Links:
    """Makes and checks links. variant is a field of Asset: video, thumbnail or spritesheet."""

    def __init__(self, storage: Storage, settings: Settings) -> None:
        self._storage = storage
        self._settings = settings
        self._key = settings.link_key()

    def link(self, record: VideoRecord, *, variant: str, base_url: str, now: float) -> Link | None:
        """None when the record has no such file. base_url is used unless settings.public_url is set."""
        file = variant_file(record.asset, variant)
        if file is None:
            return None
        if self._settings.cdn_base_url is not None:
            return Link(f"{self._settings.cdn_base_url}/{quote(file.key)}", expires_at=None)
        presigned = self._storage.presigned_url(
            file.key,
            seconds=self._settings.link_seconds,
            content_disposition=content_disposition(record, file),
        )
        expires = int(now) + self._settings.link_seconds
        if presigned is not None:
            return Link(presigned, expires_at=expires)
        query = urlencode({"variant": variant, "expires": expires, "token": self._token(record.id, variant, expires)})
        base = (self._settings.public_url or base_url).rstrip("/")
        return Link(f"{base}/v1/videos/{record.id}/content?{query}", expires_at=expires)

    def check(self, video_id: str, *, variant: str, expires: int, token: str, now: float) -> None:
        """Raises Forbidden for a token that is not ours or too old.

        A gateway link is {base}/v1/videos/{id}/content?variant=…&expires=…&token=…
        """
        if not hmac.compare_digest(self._token(video_id, variant, expires).encode(), token.encode()):
            raise Forbidden("This link is not valid: ask for the video again to get a new one.")
        if now > expires:
            raise Forbidden("This link has expired: ask for the video again to get a new one.")

    def _token(self, video_id: str, variant: str, expires: int) -> str:
        signed = f"{video_id}\n{variant}\n{expires}".encode()
        digest = hmac.new(self._key, signed, hashlib.sha256).digest()
        return urlsafe_b64encode(digest).decode().rstrip("=")


def variant_file(asset: Asset | None, variant: str) -> AssetFile | None:
    """The asset's file of that name, if there is one."""
    if asset is None:
        return None
    match variant:
        case "video":
            return asset.video
        case "thumbnail":
            return asset.thumbnail
        case "spritesheet":
            return asset.spritesheet
        case _:
            return None


def content_disposition(record: VideoRecord, file: AssetFile) -> str:
    """The header that names a saved file, in the two ways of RFC 6266, in ASCII: signed links carry it too.

    The name is the caller's own, or the video's id, with the object's suffix.
    """
    suffix = "." + file.key.rpartition(".")[2]
    stem = (record.file_name or record.id).removesuffix(suffix)
    ascii_stem = stem if stem.isascii() else record.id
    name = f'inline; filename="{ascii_stem}{suffix}"'
    return name if stem.isascii() else f"{name}; filename*=UTF-8''{quote(stem + suffix, safe='')}"
