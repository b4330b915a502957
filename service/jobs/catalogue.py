"""Finished videos put back into an empty Redis, from their provenance records."""

import json

from redis import Redis

from service.jobs.connection import redis_errors
from service.jobs.lua import load_script
from service.jobs.record import Asset


class Catalogue:
    """Every method raises QueueUnavailable without Redis, and may be called again."""

    def __init__(self, redis: Redis) -> None:
        self._restore = load_script(redis, "restore")

    @redis_errors()
    def restore(self, video_id: str, fields: dict[str, str], asset: Asset) -> bool:
        """fields: of the video's hash, as they were. False: it is there, and stays as it is."""
        words = [word for pair in fields.items() for word in pair]
        keys = json.dumps([file.key for file in asset.files])
        num_bytes = sum(file.size_bytes for file in asset.files)
        return bool(
            self._restore(
                args=[
                    video_id,
                    fields["tenant"],
                    fields["created_at"],
                    fields["expires_at"],
                    asset.id,
                    keys,
                    num_bytes,
                    *words,
                ]
            )
        )
