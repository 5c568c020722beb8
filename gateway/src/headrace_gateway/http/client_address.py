"""Who a client is and where it speaks from, as transport knows it."""

import time
from collections.abc import Sequence
from functools import partial

from headrace_contracts import channels
from headrace_contracts.batch_tokens import PREFIX, TokenInvalid, key_behind
from headrace_contracts.networks import Address, Network, client_address
from headrace_gateway.call import Credentials
from headrace_gateway.errors import Unauthenticated
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.keys.directory import key_of


class ClientAddresses:
    def __init__(self, trusted: Sequence[Network] = (), *, batch_secret: str | None = None) -> None:
        """`trusted`: the networks that our own proxies speak from. `batch_secret`: what batches' tokens are sealed with."""
        self._trusted = trusted
        self._batch_secret = batch_secret

    def of(self, exchange: Exchange) -> Address | None:
        """Null where it can't be known."""
        return client_address(exchange.peer, exchange.header("x-forwarded-for") or "", self._trusted)

    def credentials(self, exchange: Exchange, secret: str) -> Credentials:
        """Raises `Unauthenticated` for what can be no key."""
        if secret.startswith(PREFIX) and self._batch_secret is not None:
            return self._of_batch(exchange, secret, self._batch_secret)
        return Credentials(key=key_of(secret), address=partial(self.of, exchange))

    def _of_batch(self, exchange: Exchange, token: str, batch_secret: str) -> Credentials:
        try:
            key_sha256 = key_behind(token, batch_secret, now=time.time())
        except TokenInvalid as error:
            raise Unauthenticated("The batch token is not good here.") from error
        return Credentials(channels.key(key_sha256), partial(self.of, exchange), batched=True)
