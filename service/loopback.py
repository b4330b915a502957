"""Whether an address means this machine, and so whether a gateway there asks for API keys."""

import ipaddress
from functools import lru_cache

from service.settings import Settings


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether a host name or address, without port, means this machine."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def asks_for_keys(settings: Settings) -> bool:
    """Anywhere but on loopback, and there too where settings say so."""
    return settings.require_keys or not is_loopback(settings.host)
