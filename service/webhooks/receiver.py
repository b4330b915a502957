"""Where a webhook goes, judged by the letters of its URL. Pure: names are resolved at delivery, every time."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

from service.errors import InvalidRequest
from service.settings import Settings
from service.webhooks.address import Address, Network, is_public

MAX_URL_CHARACTERS = 2048
PRIVATE_NAMES = ("localhost", "localdomain", "local", "internal", "home.arpa", "onion")
"""Top-level names that the public DNS never gives away."""

LOOPBACKS: tuple[Address, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))

_URL = re.compile(
    r"""(?P<scheme>https?)://
        (?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)
        (?::(?P<port>[0-9]{1,5}))?
        (?P<target>(?:/[^?]*)?(?:\?.*)?)""",
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Receiver:
    """A URL in its parts, as they are sent: nothing after this reads the text again."""

    scheme: Literal["http", "https"]
    host: Address | str
    """A name in lower case, without a dot at the end."""

    port: int
    target: str
    """Path and query."""

    @property
    def authority(self) -> str:
        """Host and port, as the Host header has them."""
        is_usual = self.port == (443 if self.scheme == "https" else 80)
        return self.host_text if is_usual else f"{self.host_text}:{self.port}"

    @property
    def host_text(self) -> str:
        return f"[{self.host}]" if isinstance(self.host, IPv6Address) else str(self.host)


class ReceiverRules:
    """What the operator permits: ports, and networks beside the public internet."""

    def __init__(self, *, networks: Sequence[Network] = (), ports: Sequence[range] = (range(80, 81), range(443, 444))):
        self._networks = tuple(networks)
        self._ports = tuple(ports)

    @classmethod
    def of(cls, settings: Settings) -> "ReceiverRules":
        return cls(networks=settings.webhook_networks, ports=settings.webhook_ports)

    def permits(self, address: Address) -> bool:
        return is_public(address) or any(address in network for network in self._networks)

    def receiver(self, url: str, *, param: str) -> Receiver:
        """Take a URL apart. Raises InvalidRequest with the reason when its letters tell that it must not be asked."""
        try:
            receiver = _parsed(url)
            self._check(receiver)
        except ValueError as e:
            raise InvalidRequest(f"{param}: {e}.", param=param) from e
        return receiver

    def _check(self, receiver: Receiver) -> None:
        if not any(receiver.port in ports for ports in self._ports):
            raise ValueError(
                f"port {receiver.port} is not allowed here: WANSERVE_WEBHOOK_ALLOWED_PORTS names those that are"
            )
        match receiver.host:
            case str(name):
                self._check_name(name)
            case address if not self.permits(address):
                raise ValueError(
                    f"{address} is not a public address: WANSERVE_WEBHOOK_ALLOWED_NETWORKS names others that may be"
                )

    def _check_name(self, name: str) -> None:
        is_loopback = _is_below(name, "localhost")
        is_private = any(_is_below(name, private) for private in PRIVATE_NAMES)
        is_possible = any(map(self.permits, LOOPBACKS)) if is_loopback else bool(self._networks)
        if is_private and not is_possible:
            raise ValueError(f"{name} is a private name, not one of the public internet")


def _parsed(url: str) -> Receiver:
    """Raises ValueError with a reason."""
    if len(url) > MAX_URL_CHARACTERS:
        raise ValueError(f"is longer than {MAX_URL_CHARACTERS} characters")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("holds spaces, backslashes or letters beyond ASCII: write names in punycode, paths with %")
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError("must begin with https:// or http://")
    if "#" in url:
        raise ValueError("must not have a fragment (#)")
    found = _URL.fullmatch(url)
    if found is None:
        reason = "must not hold a user or password" if "@" in url else "is not a URL with a host"
        raise ValueError(reason)
    scheme: Literal["http", "https"] = "https" if found["scheme"].lower() == "https" else "http"
    port = int(found["port"] or (443 if scheme == "https" else 80))
    target = found["target"]
    return Receiver(scheme, _host(found["host"].lower()), port, target if target.startswith("/") else f"/{target}")


def _host(text: str) -> Address | str:
    """Raises ValueError."""
    if text.startswith("["):
        return _address(text[1:-1])
    name = text.removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # Resolvers read 2130706433, 0x7f.1 and 0177.0.0.1 as addresses.
        return _address(name)
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"{text[:80]} is not a host name")
    return name


def _address(text: str) -> Address:
    try:
        return ip_address(text)
    except ValueError:
        raise ValueError(f"{text[:80]} is not an address: write IPv4 as four decimal numbers") from None


def _is_below(name: str, parent: str) -> bool:
    return name == parent or name.endswith(f".{parent}")
