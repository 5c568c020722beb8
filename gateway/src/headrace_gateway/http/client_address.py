"""Where a request comes from: the connection's other end, or what our own proxies say of it.

What must stay true: a client can't choose its address. `X-Forwarded-For` counts only from a trusted proxy, read from
its right end, where each proxy adds whom it heard; the first that is no trusted proxy is the client, and whatever
stands left of that is its own invention.
"""

from collections.abc import Sequence
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address

from headrace_gateway.call import Address, Credentials
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.keys.directory import key_of

HOPS_MAX = 32
"""Proxies in a row; more is somebody's joke."""

Network = IPv4Network | IPv6Network


class ClientAddresses:
    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        """`trusted`: the networks that our own proxies speak from."""
        self._trusted = trusted

    def of(self, exchange: Exchange) -> Address | None:
        """Null where it can't be known: a proxy named something that is no address."""
        address = address_of(exchange.peer)
        if address is None or not self._trusts(address):
            return address
        hops = (exchange.header("x-forwarded-for") or "").split(",")
        for hop in reversed(hops[-HOPS_MAX:]):
            if not hop.strip():
                continue
            address = address_of(hop)
            if address is None or not self._trusts(address):
                return address
        return address if len(hops) <= HOPS_MAX else None

    def credentials(self, exchange: Exchange, secret: str) -> Credentials:
        """Raises `Unauthenticated` for what can be no key."""
        return Credentials(key=key_of(secret), address=partial(self.of, exchange))

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


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
