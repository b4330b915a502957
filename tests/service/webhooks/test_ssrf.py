"""URLs that would lead a gateway into its own network: refused by their letters, or by what they resolve to."""

import select
import socket
from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network

import pytest

from service.errors import InvalidRequest, ReceiverUnreachable
from service.webhooks.address import is_public
from service.webhooks.outbound import Outbound
from service.webhooks.receiver import ReceiverRules

REFUSED_BY_THEIR_LETTERS = {
    # Not HTTP, not a URL.
    "ftp://example.com/": "must begin with",
    "file:///etc/passwd": "must begin with",
    "gopher://127.0.0.1:6379/_FLUSHALL": "must begin with",
    "javascript:alert(1)": "must begin with",
    "//example.com/": "must begin with",
    "example.com/hook": "must begin with",
    "": "must begin with",
    "https://": "is not a URL",
    "https:///path": "is not a URL",
    "https://?q": "is not a URL",
    "https://exa%6dple.com/": "is not a URL",
    "https://example.com:/": "is not a URL",
    "https://example.com:443:80/": "is not a URL",
    "https://[::1/": "is not a URL",
    "https://example.com/#fragment": "fragment",
    "https://-example.com/": "is not a host name",
    "https://example..com/": "is not a host name",
    "https://" + "a" * 64 + ".com/": "is not a host name",
    "https://example.com/" + "a" * 2048: "longer than",
    # What another parser would read as another host.
    "https://example.com@127.0.0.1/": "user or password",
    "https://user:pass@example.com/": "user or password",
    "https://127.0.0.1\\@example.com/": "backslashes",
    "https://example.com\\.evil.test/": "backslashes",
    "https://example.com /": "spaces",
    "https://example.com/\r\nX-Injected: 1": "spaces",
    "https://example.com\t/": "spaces",
    "https://example。com/": "ASCII",
    "https://127。0。0。1/": "ASCII",
    "https://①②⑦.⓪.⓪.①/": "ASCII",
    "https://ⓛocalhost/": "ASCII",
    # Loopback in every spelling.
    "http://127.0.0.1/": "not a public address",
    "http://127.8.8.8/": "not a public address",
    "http://127.0.0.1./": "not a public address",
    "http://127.1/": "four decimal numbers",
    "http://2130706433/": "four decimal numbers",
    "http://0x7f000001/": "four decimal numbers",
    "http://0x7f.1/": "four decimal numbers",
    "http://0177.0.0.1/": "four decimal numbers",
    "http://127.0.0.0x1/": "four decimal numbers",
    "http://0/": "four decimal numbers",
    "http://0.0.0.0/": "not a public address",
    "http://localhost/": "private name",
    "http://LOCALHOST./": "private name",
    "http://db.localhost/": "private name",
    "http://localhost.localdomain/": "private name",
    "http://[::1]/": "not a public address",
    "http://[::]/": "not a public address",
    "http://[0:0:0:0:0:0:0:1]/": "not a public address",
    # Private, shared, link-local, multicast, reserved.
    "http://10.0.0.1/": "not a public address",
    "http://172.16.0.1/": "not a public address",
    "http://192.168.1.1/": "not a public address",
    "http://100.64.0.1/": "not a public address",
    "http://198.18.0.1/": "not a public address",
    "http://192.0.2.1/": "not a public address",
    "http://224.0.0.1/": "not a public address",
    "http://255.255.255.255/": "not a public address",
    "http://[fd00::1]/": "not a public address",
    "http://[fe80::1]/": "not a public address",
    "http://[fe80::1%25eth0]/": "is not a URL",
    "http://[fec0::1]/": "not a public address",
    "http://[ff02::1]/": "not a public address",
    "http://[2001:db8::1]/": "not a public address",
    # IPv4 inside IPv6: mapped, compatible, NAT64, 6to4, Teredo.
    "http://[::ffff:127.0.0.1]/": "not a public address",
    "http://[::ffff:7f00:1]/": "not a public address",
    "http://[::ffff:8.8.8.8]/": "not a public address",
    "http://[::127.0.0.1]/": "not a public address",
    "http://[64:ff9b::7f00:1]/": "not a public address",
    "http://[64:ff9b:1::a00:1]/": "not a public address",
    "http://[2002:7f00:1::]/": "not a public address",
    "http://[2001:0:53aa:64c::1]/": "not a public address",
    # Metadata of clouds.
    "http://169.254.169.254/latest/meta-data/": "not a public address",
    "http://[fd00:ec2::254]/": "not a public address",
    "http://100.100.100.200/": "not a public address",
    "http://168.63.129.16/": "not a public address",
    "http://metadata.google.internal/": "private name",
    # Ports of other services.
    "http://example.com:22/": "port 22",
    "http://example.com:6379/": "port 6379",
    "https://example.com:0/": "port 0",
    "https://example.com:99999/": "port 99999",
}

ACCEPTED = {
    "https://example.com": ("example.com", 443, "/"),
    "http://example.com": ("example.com", 80, "/"),
    "HTTPS://Example.COM./Hook?a=b@c": ("example.com", 443, "/Hook?a=b@c"),
    "https://example.com?a": ("example.com", 443, "/?a"),
    "https://example.com:80/x": ("example.com:80", 80, "/x"),
    "https://xn--bcher-kva.example/": ("xn--bcher-kva.example", 443, "/"),
    "https://8.8.8.8/": ("8.8.8.8", 443, "/"),
    "https://[2606:4700::1111]/": ("[2606:4700::1111]", 443, "/"),
    "https://notlocalhost/": ("notlocalhost", 443, "/"),
}

NOT_PUBLIC_AT_DELIVERY = (
    ["127.0.0.1"],
    ["::1"],
    ["10.0.0.7"],
    ["169.254.169.254"],
    ["fe80::1%eth0"],
    ["::ffff:127.0.0.1"],
    ["64:ff9b::7f00:1"],
    ["2002:7f00:1::"],
    ["0.0.0.0"],
    ["8.8.8.8", "127.0.0.1"],
    ["2606:4700::1111", "fd00::1"],
)


@pytest.mark.parametrize(("url", "reason"), REFUSED_BY_THEIR_LETTERS.items())
def test_a_hostile_url_is_refused_by_its_letters_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        ReceiverRules().receiver(url, param="webhook.url")

    assert reason in error.value.message
    assert (error.value.http_status, error.value.param) == (400, "webhook.url")


@pytest.mark.parametrize(("url", "expected"), ACCEPTED.items())
def test_a_public_url_is_taken_apart_once(url: str, expected: tuple[str, int, str]) -> None:
    receiver = ReceiverRules().receiver(url, param="url")

    assert (receiver.authority, receiver.port, receiver.target) == expected


class Trap:
    """A loopback port to which any connection at all is a breach."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.port: int = listener.getsockname()[1]

    @property
    def is_sprung(self) -> bool:
        """A connection waits in the listener's backlog, whoever made it."""
        return bool(select.select([self._listener], [], [], 0)[0])


@pytest.fixture
def trap() -> Iterator[Trap]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Trap(listener)


@pytest.mark.parametrize("addresses", NOT_PUBLIC_AT_DELIVERY, ids=" ".join)
def test_a_name_with_any_address_that_is_not_public_is_not_connected_to(addresses: Sequence[str], trap: Trap) -> None:
    rules = ReceiverRules(ports=[range(trap.port, trap.port + 1)])
    outbound = Outbound(rules, timeout_seconds=5, resolve=lambda _host, _port: addresses)

    with pytest.raises(ReceiverUnreachable, match="not public"):
        outbound.post(f"http://rebound.example:{trap.port}/", headers={}, body=b"")

    assert not trap.is_sprung


def test_a_name_that_is_rebound_between_two_looks_is_looked_at_once(trap: Trap) -> None:
    """The public address is asked for first; a second look-up, at the connection, would get loopback."""
    answers = iter([["192.0.2.1"], ["127.0.0.1"]])
    asked = []

    def resolve(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return next(answers)

    # A documentation network stands for the public internet: nobody answers there.
    rules = ReceiverRules(networks=[ip_network("192.0.2.0/24")], ports=[range(trap.port, trap.port + 1)])
    with pytest.raises(ReceiverUnreachable):
        Outbound(rules, timeout_seconds=0.2, resolve=resolve).post(
            f"http://rebound.example:{trap.port}/", headers={}, body=b""
        )

    assert asked == ["rebound.example"]
    assert not trap.is_sprung


def test_a_url_that_was_accepted_under_other_rules_is_judged_again_at_delivery(trap: Trap) -> None:

    with pytest.raises(ReceiverUnreachable, match="not a public address"):
        Outbound(ReceiverRules(ports=[range(1, 65536)]), timeout_seconds=5).post(
            f"http://127.0.0.1:{trap.port}/", headers={}, body=b""
        )

    assert not trap.is_sprung


def test_a_name_that_does_not_resolve_is_a_failure_with_its_reason() -> None:
    def resolve(_host: str, _port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(ReceiverUnreachable, match="can't be resolved"):
        Outbound(ReceiverRules(), timeout_seconds=5, resolve=resolve).post(
            "https://nowhere.example/", headers={}, body=b""
        )


def test_a_private_network_may_be_named_and_nothing_beside_it_opens() -> None:
    rules = ReceiverRules(networks=[ip_network("10.1.0.0/16")])

    assert rules.receiver("https://10.1.2.3/", param="url").host == ip_address("10.1.2.3")
    assert rules.receiver("https://hooks.internal/", param="url").host == "hooks.internal"
    for url in ("https://10.2.0.1/", "https://localhost/", "https://[::ffff:10.1.2.3]/"):
        with pytest.raises(InvalidRequest):
            rules.receiver(url, param="url")


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "192.169.0.1", "2606:4700::1", "2a00:1450::1"])
def test_public_addresses_stay_public(address: str) -> None:
    assert is_public(ip_address(address))
