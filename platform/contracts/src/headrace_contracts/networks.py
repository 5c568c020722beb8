"""Where a request comes from and whether a list of networks holds it: the gateways and billing must judge alike.

What must stay true: a client can't choose its address. `X-Forwarded-For` counts only from a trusted proxy, read from
its right end, where each proxy adds whom it heard; the first that is no trusted proxy is the client, and whatever
stands left of that is its own invention.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

HOPS_MAX = 32
"""Proxies in a row; more is somebody's joke."""

LISTS_MAX = 4096
"""Parsed once: a list takes longer to read than all else that is checked of a request."""


def client_address(peer: str, forwarded: str, trusted: Sequence[Network]) -> Address | None:
    """`forwarded`: X-Forwarded-For, its lines joined by commas. Null for a proxy that named something else."""
    address = address_of(peer)
    if address is None or not _within(address, trusted):
        return address
    hops = forwarded.split(",")
    for hop in reversed(hops[-HOPS_MAX:]):
        if not hop.strip():
            continue
        address = address_of(hop)
        if address is None or not _within(address, trusted):
            return address
    return address if len(hops) <= HOPS_MAX else None


def address_of(text: str) -> Address | None:
    """Of what proxies write: an address, or one with a port; IPv4 in IPv6's clothes is IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


def hold(cidrs: Sequence[str], address: Address | None) -> bool:
    """No list holds an address that is unknown."""
    return address is not None and _within(address, _networks(tuple(cidrs)))


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


@lru_cache(maxsize=LISTS_MAX)
def _networks(cidrs: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ip_network(cidr) for cidr in cidrs)
