"""Which addresses belong to the public internet. Pure.

ipaddress.is_global changes with Python's version, and up to 3.11 calls 6to4, NAT64 and multicast global.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

GLOBAL_UNICAST_6 = ip_network("2000::/3")
"""Outside it lie loopback, private, multicast, and IPv4 in disguise: ::ffff:0:0/96 (mapped), 64:ff9b::/96 (NAT64)."""

NOT_PUBLIC = tuple(
    ip_network(network)
    for network in (
        # IANA's IPv4 special-purpose registry.
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        # A public address by number, the virtual machine's own host by routing.
        "168.63.129.16/32",
        # Inside 2000::/3: Teredo and other protocols, documentation, 6to4.
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
    )
)


def is_public(address: Address) -> bool:
    """Whether it is unicast on the public internet, and carries no other address inside."""
    if isinstance(address, IPv6Address) and address not in GLOBAL_UNICAST_6:
        return False
    return not any(address in network for network in NOT_PUBLIC)
