"""Which addresses are of the public internet. What is fetched for strangers goes to no other: they would
reach what only this machine does."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

_HOSTS: Final = ip_network("2000::/3")
"""What IPv6 hosts on the internet have (RFC 4291 section 2.4)."""
_NAT64: Final = ip_network("64:ff9b::/96")
"""An IPv4 address as a network without IPv4 resolves it (RFC 6052)."""
_CLOSED: Final = tuple(
    map(
        ip_network,
        (
            "192.0.0.0/24",  # IETF protocol assignments
            "192.88.99.0/24",  # 6to4 relays (RFC 7526)
            "168.63.129.16/32",  # a virtual one, at which Azure serves each machine its configuration
            "2001::/23",  # IETF protocol assignments, Teredo among them, which tunnels to an IPv4 address
            "2002::/16",  # 6to4, which does as well
            "3fff::/20",  # documentation (RFC 9637)
        ),
    )
)


def is_public(text: str) -> bool:
    """Whether an IP address is one that anybody on the internet can reach. Raises `ValueError` for what is
    not an address."""
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        inner = IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address.ipv4_mapped
        if inner is None and address not in _HOSTS:
            return False
        address = inner or address
    closed = any(address in each for each in _CLOSED if each.version == address.version)
    return address.is_global and not address.is_multicast and not closed
