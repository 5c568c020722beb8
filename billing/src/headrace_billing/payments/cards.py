"""Saved cards. Stripe keeps them and knows whose they are; here is only which of its customers an organisation is."""

from headrace_billing.accounts import store as accounts
from headrace_billing.database import Database
from headrace_billing.errors import NotFound
from headrace_billing.payments import customer_store
from headrace_billing.payments.access import PaymentRefused
from headrace_billing.payments.money_seen import CardSeen
from headrace_billing.payments.stripe_api import Stripe


async def customer_of(database: Database, stripe: Stripe, org: str) -> str:
    """The organisation at Stripe, made now or before. Raises `NotFound` and `PaymentsUnavailable`."""
    async with database.begin() as session:
        organization = await accounts.organization(session, org)
        known = await customer_store.customer_of(session, org)
    if known is not None:
        return known
    made = await stripe.open_customer(org=org, name=organization.name)
    async with database.begin() as session:
        return await customer_store.keep(session, org=org, customer=made)


async def cards_of(database: Database, stripe: Stripe, org: str) -> list[CardSeen]:
    """Raises `NotFound` and `PaymentsUnavailable`."""
    async with database.begin() as session:
        await accounts.organization(session, org)
        customer = await customer_store.customer_of(session, org)
    return [] if customer is None else await stripe.cards(customer)


async def card_of(database: Database, stripe: Stripe, org: str, card: str) -> CardSeen:
    """Raises `NotFound` for a card of anybody else, or none, and `PaymentsUnavailable`."""
    async with database.begin() as session:
        customer = await customer_store.customer_of(session, org)
    try:
        seen = await stripe.card(card)
    except PaymentRefused:
        raise NotFound("card", card) from None
    if customer is None or seen.customer != customer:
        raise NotFound("card", card)
    return seen
