"""Who is at the other end: the client's address, believed only from proxies that the host app trusts."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

MAXIMUM_HOPS: Final = 32


def client_address(peer: str, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str:
    """The address that is counted and logged (ASVS 4.1.3): the transport's peer, or the right-most hop of
    `X-Forwarded-For` that is not a trusted proxy, where the peer is one. What is left of it anyone can
    write."""
    address = _address(peer)
    if address is None or not trusted:
        return peer
    hops = [hop.strip() for line in forwarded_for for hop in line.split(",")][-MAXIMUM_HOPS:]
    while hops and any(address in network for network in trusted):
        hop = _address(hops.pop())
        if hop is None:
            break
        address = hop
    return str(address)


def counted_network(address: str) -> str:
    """What rate limits count: an IPv4 address, or the /64 that one IPv6 customer has."""
    parsed = _address(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, 64), strict=False))
    return address if parsed is None else str(parsed)


def guessing_network(address: str) -> str:
    """What guesses are counted for: the /24 of an IPv4 address, and of IPv6 the /64."""
    parsed = _address(address)
    if parsed is None:
        return address
    return str(ip_network((parsed, 24 if parsed.version == 4 else 64), strict=False))


def is_loopback(peer: str) -> bool:
    """Whether the transport's peer is on this machine."""
    address = _address(peer)
    return address is not None and address.is_loopback


def _address(text: str) -> Address | None:
    # Some proxies add the port of the client.
    host = text.rpartition(":")[0] if text.count(":") == 1 else text.partition("]")[0].removeprefix("[")
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
