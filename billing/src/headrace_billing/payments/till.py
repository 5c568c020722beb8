"""What payments work with: the books, the gateways' view of balances, and Stripe."""

from dataclasses import dataclass

from redis.asyncio import Redis

from headrace_billing.database import Database
from headrace_billing.payments.stripe_api import Stripe


@dataclass(frozen=True, slots=True)
class Till:
    database: Database
    valkey: Redis
    stripe: Stripe
