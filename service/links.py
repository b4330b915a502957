"""Links to finished files: behind a CDN, presigned, or the gateway with a signed token. Made when sent."""

from dataclasses import dataclass

from service.jobs.record import VideoRecord
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
        raise NotImplementedError

    def link(self, record: VideoRecord, *, variant: str, base_url: str, now: float) -> Link | None:
        """None when the record has no such file. base_url is used unless settings.public_url is set."""
        raise NotImplementedError

    def check(self, video_id: str, *, variant: str, expires: int, token: str, now: float) -> None:
        """Raises Forbidden for a token that is not ours or too old.

        A gateway link is {base}/v1/videos/{id}/content?variant=…&expires=…&token=…
        """
        raise NotImplementedError
