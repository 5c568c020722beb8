"""The seller's side of the demo: what one does with billing's control API."""

import secrets
import time
from collections.abc import Mapping
from typing import Any, Self

import httpx2

Document = dict[str, Any]


class BillingRefused(Exception):
    """Billing answered a problem document; the message is its code and detail."""

    def __init__(self, response: httpx2.Response) -> None:
        problem = response.json() if "json" in response.headers.get("content-type", "") else {}
        self.code = str(problem.get("code", response.status_code))
        detail = problem.get("detail") or problem.get("title") or response.text[:200]
        super().__init__(f"{response.request.method} {response.request.url.path}: {self.code}: {detail}")


class Billing:
    """A thin client of billing's HTTP API for one bearer token: the admin's, or an API key."""

    def __init__(self, url: str, token: str) -> None:
        self.http = httpx2.Client(base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def post(self, path: str, body: Mapping[str, Any]) -> Document:
        """Raises `BillingRefused`. Every POST carries an idempotency key, so a retried one is harmless."""
        return self._answer(
            self.http.post(path, json=dict(body), headers={"idempotency-key": secrets.token_hex(16)})
        )

    def get(self, path: str, **query: str) -> Document:
        return self._answer(self.http.get(path, params=query))

    def download(self, path: str) -> bytes:
        response = self.http.get(path)
        if response.is_error:
            raise BillingRefused(response)
        return response.content

    @staticmethod
    def _answer(response: httpx2.Response) -> Document:
        if response.is_error:
            raise BillingRefused(response)
        document: Document = response.json()
        return document


def wait_until_settled(
    billing: Billing, organization: str, *, requests: int, deadline_seconds: float = 30
) -> Document:
    """The reconciliation report, once it knows `requests` requests and is green, or as it is at the deadline.

    Engine records and usage events come to billing by different ways, so for a moment one side is ahead.
    """
    until = time.monotonic() + deadline_seconds
    while True:
        report = billing.get("/v1/reconciliation", organization=organization)
        done = report["status"] == "green" and report["totals"]["requests"] >= requests
        if done or time.monotonic() > until:
            return report
        time.sleep(0.25)
