"""What a seller does with the API before anything interesting can happen."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx2

from tests.billing.answers import check_answer

ADMIN_TOKEN = "admin-token-of-the-tests"
INGEST_TOKEN = "ingest-token-of-the-tests"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MODEL = "glm-tiny"
PRICES = {"input_uncached": "30", "cache_read": "6", "cache_write": "30", "output": "90"}

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Customer:
    org: str
    project: str
    wallet: str
    key: str
    secret: str


@dataclass(frozen=True, slots=True)
class Seller:
    """The admin's side of the API; every answer that is no success fails the test."""

    http: httpx2.AsyncClient
    token: str = ADMIN_TOKEN

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> httpx2.Response:
        answer = await self.http.request(
            method,
            path,
            json=body,
            headers={
                "authorization": f"Bearer {self.token}",
                "idempotency-key": secrets.token_hex(8),
                **headers,
            },
        )
        if answer.is_success and answer.content and answer.headers["content-type"] == "application/json":
            check_answer(method, path, answer.status_code, answer.json())
        return answer

    async def post(self, path: str, body: object = None) -> Document:
        answer = await self.ask("POST", path, body)
        assert answer.is_success, answer.text
        document: Document = answer.json()
        return document

    async def get(self, path: str) -> Document:
        answer = await self.ask("GET", path)
        assert answer.is_success, answer.text
        document: Document = answer.json()
        return document

    async def refused(
        self, path: str, body: object, *, method: str = "POST", **headers: str
    ) -> tuple[int, str]:
        """Status and code of a request that must be refused with a problem document."""
        answer = await self.ask(method, path, body, **headers)
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        problem = answer.json()
        assert problem["status"] == answer.status_code
        return answer.status_code, problem["code"]

    async def publish_prices(self, prices: Document = PRICES, *, currency: str = "USD") -> str:
        book = await self.post("/v1/price-books", {"currency": currency, "models": {MODEL: prices}})
        return str(book["id"])

    async def customer(self, *, credit: str | None = "5.00", disposition: str = "prepaid") -> Customer:
        org = await self.post("/v1/organizations", {"name": "Millrace Analytics"})
        project = await self.post(
            "/v1/projects",
            {"organization": org["id"], "name": "production", "currency": "USD", "disposition": disposition},
        )
        if credit is not None:
            await self.grant(credit, wallet=project["wallet"])
        key = await self.post("/v1/keys", {"project": project["id"], "name": "first"})
        return Customer(org["id"], project["id"], project["wallet"], key["id"], key["secret"])

    async def grant(self, amount: str, *, wallet: str, kind: str = "paid") -> Document:
        body = {"wallet": wallet, "amount": amount, "currency": "USD", "kind": kind, "reason": "test"}
        return await self.post("/v1/credit-grants", body)

    async def balance(self, wallet: str) -> str:
        return str((await self.get(f"/v1/wallets/{wallet}"))["balance"])
