"""Signatures by Standard Webhooks: HMAC-SHA256 over id, timestamp and body. https://www.standardwebhooks.com"""

from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook


def signed_headers(event_id: str, body: str, *, secrets: Sequence[str], now: float) -> dict[str, str]:
    """The three headers; one signature a secret, so that a receiver may hold either while they rotate.

    now: Unix seconds. The receiver refuses old ones, so that every attempt is signed anew.
    """
    stamp = datetime.fromtimestamp(int(now), UTC)
    signatures = [Webhook(secret).sign(event_id, stamp, body) for secret in secrets]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": " ".join(signatures),
    }
