"""What the routes of a process share, built once by `headrace_billing.app` and handed to each by FastAPI."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request
from redis.asyncio import Redis

from headrace_billing.batches.bounds import BatchBounds
from headrace_billing.clock.movable import MovableClock
from headrace_billing.database import Database
from headrace_billing.invoicing.tax import TaxAdapter, TaxTable
from headrace_billing.payments.stripe_api import Stripe
from headrace_contracts.networks import Network


@dataclass(frozen=True, slots=True)
class Parts:
    database: Database
    valkey: Redis
    admin_token: str
    ingest_token: str
    signing_key: bytes
    now: Callable[[], datetime]
    trusted_proxies: Sequence[Network] = ()
    token_signing_secret: bytes | None = None
    """Null where no keys are made that sign."""
    tax: TaxAdapter = field(default_factory=TaxTable)
    stripe: Stripe | None = None
    """Null where no Stripe account is connected."""
    batches: BatchBounds | None = None
    """Null where no gateway is known that would serve them."""
    webhook_networks: Sequence[Network] = ()
    """Those that webhooks may be sent to although they are not public."""

    @property
    def is_test(self) -> bool:
        """An installation whose time can be moved; nothing that it issues is meant."""
        return isinstance(self.now, MovableClock)


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


PartsOf = Annotated[Parts, Depends(_parts)]
