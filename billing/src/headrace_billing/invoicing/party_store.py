"""Sellers with their tax rates, and customers' billing profiles, in Postgres."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import NotFound
from headrace_billing.invoicing.einvoice.particulars import BuyerParticulars, SellerParticulars
from headrace_billing.invoicing.parties import NumberPrefixTaken, Profile, Seller
from headrace_billing.invoicing.tax import Rate

DEFAULT_SELLER = "default"


async def save_seller(session: AsyncSession, seller: Seller) -> None:
    """Raises `NumberPrefixTaken`."""
    try:
        async with session.begin_nested():
            fields = {**asdict(seller), "e_invoice": json.dumps(seller.e_invoice.stated())}
            await session.execute(UPSERT_SELLER, fields)
    except IntegrityError as error:
        raise NumberPrefixTaken(seller.number_prefix) from error


async def seller(session: AsyncSession, seller_id: str) -> Seller:
    """Raises `NotFound`."""
    row = (await session.execute(SELECT_SELLER, {"id": seller_id})).mappings().first()
    if row is None:
        raise NotFound("seller", seller_id)
    return seller_of(row)


def seller_of(row: RowMapping) -> Seller:
    return Seller(**{**row, "e_invoice": SellerParticulars(**row["e_invoice"])})


async def save_rates(session: AsyncSession, seller_id: str, rates: Sequence[Rate]) -> None:
    """The seller's whole table. Raises `NotFound`."""
    await seller(session, seller_id)
    await session.execute(DELETE_RATES, {"seller": seller_id})
    rows = [
        {
            "seller": seller_id,
            "country": rate.country,
            "name": rate.name,
            "rate": rate.percent,
            "reverse_charge": rate.reverse_charge,
        }
        for rate in rates
    ]
    if rows:
        await session.execute(INSERT_RATES, rows)


async def save_profile(session: AsyncSession, organization: str, profile: Profile) -> None:
    """Raises `NotFound` for the seller, or for a project that is none of the organisation's."""
    await seller(session, profile.seller)
    known = set((await session.execute(SELECT_PROJECTS, {"org": organization})).scalars())
    for project in profile.cost_centers:
        if project not in known:
            raise NotFound("project", project)
    fields: dict[str, Any] = {
        **asdict(profile),
        "cost_centers": json.dumps(dict(profile.cost_centers)),
        "e_invoice": json.dumps(profile.e_invoice.stated()),
    }
    await session.execute(UPSERT_PROFILE, {"org": organization, **fields})


async def profile(session: AsyncSession, organization: str, *, name: str) -> Profile:
    """What is on file; of an organisation that has said nothing, its name."""
    return (await profiles(session, {organization: name}))[organization]


async def profiles(session: AsyncSession, names: Mapping[str, str]) -> dict[str, Profile]:
    """By organisation; `names` are their own."""
    found = {org: Profile(seller=DEFAULT_SELLER, legal_name=name) for org, name in names.items()}
    for row in (await session.execute(SELECT_PROFILES, {"orgs": list(names)})).mappings():
        fields = {name: row[name] for name in row if name != "org"}
        found[row["org"]] = Profile(**{**fields, "e_invoice": BuyerParticulars(**row["e_invoice"])})
    return found


UPSERT_SELLER = text("""
    INSERT INTO sellers (id, name, address, tax_id, email, number_prefix, country, e_invoice)
    VALUES (:id, :name, :address, :tax_id, :email, :number_prefix, :country, CAST(:e_invoice AS jsonb))
    ON CONFLICT (id) DO UPDATE
    SET name = excluded.name, address = excluded.address, tax_id = excluded.tax_id, email = excluded.email,
        number_prefix = excluded.number_prefix, country = excluded.country,
        e_invoice = excluded.e_invoice
""")

SELECT_SELLER = text("""
    SELECT id, name, address, tax_id, email, number_prefix, country, e_invoice FROM sellers WHERE id = :id
""")

DELETE_RATES = text("DELETE FROM tax_rates WHERE seller = :seller")

INSERT_RATES = text("""
    INSERT INTO tax_rates (seller, country, name, rate, reverse_charge)
    VALUES (:seller, :country, :name, :rate, :reverse_charge)
""")

SELECT_PROJECTS = text("SELECT id FROM projects WHERE org = :org")

UPSERT_PROFILE = text("""
    INSERT INTO billing_profiles (org, seller, legal_name, address, country, vat_id, tax_exempt,
                                  prices_include_tax, purchase_order, payment_days, cost_centers, e_invoice)
    VALUES (:org, :seller, :legal_name, :address, :country, :vat_id, :tax_exempt, :prices_include_tax,
            :purchase_order, :payment_days, CAST(:cost_centers AS jsonb), CAST(:e_invoice AS jsonb))
    ON CONFLICT (org) DO UPDATE
    SET seller = excluded.seller, legal_name = excluded.legal_name, address = excluded.address,
        country = excluded.country, vat_id = excluded.vat_id, tax_exempt = excluded.tax_exempt,
        prices_include_tax = excluded.prices_include_tax,
        purchase_order = excluded.purchase_order, payment_days = excluded.payment_days,
        cost_centers = excluded.cost_centers, e_invoice = excluded.e_invoice
""")

SELECT_PROFILES = text("""
    SELECT org, seller, legal_name, address, country, vat_id, tax_exempt, prices_include_tax, purchase_order, payment_days,
           cost_centers, e_invoice
    FROM billing_profiles WHERE org = ANY(:orgs)
""")
