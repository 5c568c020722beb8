"""Who a client is and where it speaks from, as transport knows it."""

from collections.abc import Sequence
from functools import partial

from headrace_contracts.networks import Address, Network, client_address
from headrace_gateway.call import Credentials
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.keys.directory import key_of


class ClientAddresses:
    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        """`trusted`: the networks that our own proxies speak from."""
        self._trusted = trusted

    def of(self, exchange: Exchange) -> Address | None:
        """Null where it can't be known."""
        return client_address(exchange.peer, exchange.header("x-forwarded-for") or "", self._trusted)

    def credentials(self, exchange: Exchange, secret: str) -> Credentials:
        """Raises `Unauthenticated` for what can be no key."""
        return Credentials(key=key_of(secret), address=partial(self.of, exchange))
