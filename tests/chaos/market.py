"""The customers of a run, opened through billing's API before anything goes wrong, and what is done to them later."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.chaos.engine import MODEL
from tests.chaos.facts import Customer
from tests.chaos.schedule import Role

# Per token in micro-units: 10 uncached, 2 cached, 30 output. Whole, so that the audit needs no rounding.
PRICES = {"input_uncached": "10", "cache_read": "2", "cache_write": "10", "output": "30"}
NANOS_A_TOKEN = {"input_uncached": 10_000, "cache_read": 2_000, "cache_write": 10_000, "output": 30_000}

THIN_CREDIT = "0.06"
TOP_UP = "0.02"
AT_ONCE = 2
BUDGET_MICROS = 200_000
REQUESTS_PER_MINUTE = 20
WINDOW_REQUESTS = 8
WINDOW_SECONDS = 20

RETRY_SECONDS = 0.5
GIVE_UP_SECONDS = 90.0

Document = dict[str, Any]


class NotDone(AssertionError):
    """Billing did not do what was asked of it within a time in which everything comes back."""


@dataclass
class Market:
    http: httpx2.AsyncClient
    token: str
    secrets: dict[Role, list[str]] = field(default_factory=dict)
    customers: list[Customer] = field(default_factory=list)

    async def open(self, *, revoked_keys: int) -> None:
        await self._ask("/v1/price-books", {"currency": "USD", "models": {MODEL: PRICES}})
        window = {"seconds": WINDOW_SECONDS, "shape": "fixed", "unit": "requests"}
        await self._customer(Role.AMPLE, credit="1000.00")
        await self._customer(Role.CREDIT, disposition="payg")
        await self._customer(Role.THIN, credit=THIN_CREDIT)
        await self._customer(
            Role.PACED, {"kind": "requests_per_minute", "ceiling": REQUESTS_PER_MINUTE}, credit="100.00"
        )
        await self._customer(Role.NARROW, {"kind": "concurrency", "ceiling": AT_ONCE}, credit="100.00")
        await self._customer(
            Role.CAPPED, {"kind": "spend_total", "ceiling": BUDGET_MICROS}, disposition="payg"
        )
        await self._customer(
            Role.WINDOWED, {"kind": "window", "ceiling": WINDOW_REQUESTS, "window": window}, credit="100.00"
        )
        await self._customer(Role.REVOKED, credit="100.00", keys=revoked_keys)

    async def top_up(self) -> None:
        [thin] = [customer for customer in self.customers if customer.role is Role.THIN]
        await self._until_done("/v1/credit-grants", _grant(thin.wallet, TOP_UP))

    async def revoke(self, number: int) -> tuple[str, int]:
        """The key's id, and the microsecond by which its revocation was confirmed."""
        [customer] = [customer for customer in self.customers if customer.role is Role.REVOKED]
        key = customer.keys[number]
        await self._until_done(f"/v1/keys/{key}/revoke", {})
        return key, time.time_ns() // 1000

    async def reconciliation(self) -> Document:
        answer = await self.http.get("/v1/reconciliation?limit=0", headers=self._headers())
        assert answer.is_success, answer.text
        document: Document = answer.json()
        return document

    async def _customer(
        self,
        role: Role,
        limit: Mapping[str, Any] | None = None,
        *,
        credit: str | None = None,
        disposition: str = "prepaid",
        keys: int = 1,
    ) -> None:
        org = await self._ask("/v1/organizations", {"name": role.value})
        project = await self._ask(
            "/v1/projects",
            {"organization": org["id"], "name": role.value, "currency": "USD", "disposition": disposition},
        )
        if credit is not None:
            await self._ask("/v1/credit-grants", _grant(project["wallet"], credit))
        made = [
            await self._ask(
                "/v1/keys",
                {"project": project["id"], "name": f"key {n}", "limits": [limit] if limit else []},
            )
            for n in range(keys)
        ]
        self.secrets[role] = [key["secret"] for key in made]
        self.customers.append(
            Customer(
                role=role,
                org=org["id"],
                wallet=project["wallet"],
                keys=[key["id"] for key in made],
                concurrency=AT_ONCE if role is Role.NARROW else None,
                budget_micros=BUDGET_MICROS if role is Role.CAPPED else None,
                requests_per_minute=REQUESTS_PER_MINUTE if role is Role.PACED else None,
                window_requests=WINDOW_REQUESTS if role is Role.WINDOWED else None,
                window_seconds=WINDOW_SECONDS if role is Role.WINDOWED else None,
            )
        )

    async def _ask(self, path: str, body: Mapping[str, Any]) -> Document:
        answer = await self.http.post(path, json=body, headers=self._headers())
        assert answer.is_success, f"{path}: {answer.text}"
        document: Document = answer.json()
        return document

    async def _until_done(self, path: str, body: Mapping[str, Any]) -> None:
        headers, until = self._headers(), time.monotonic() + GIVE_UP_SECONDS
        while True:
            try:
                answer = await self.http.post(path, json=body, headers=headers)
            except httpx2.TransportError as error:
                said = type(error).__name__
            else:
                if answer.is_success:
                    return
                said = answer.text
            if time.monotonic() > until:
                raise NotDone(f"{path}: {said}")
            await asyncio.sleep(RETRY_SECONDS)

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}", "idempotency-key": secrets.token_hex(16)}


def _grant(wallet: str, amount: str) -> Document:
    return {"wallet": wallet, "amount": amount, "currency": "USD", "kind": "paid", "reason": "chaos"}
