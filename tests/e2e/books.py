"""What the engine and billing know of requests, once both know of them."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import psycopg

from headrace_platform.demo.seller import Billing, BillingRefused
from tests.e2e.conftest import DemoRun

KNOWN_WITHIN_SECONDS = 60.0
"""The engine's records are shipped every few seconds, and a stream's last event may have to wait for the reaper."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens of one request, wherever they were counted."""

    prompt: int
    cached: int
    output: int


@dataclass(frozen=True, slots=True)
class Known:
    engine: Counted
    billed: Counted
    document: dict[str, Any]
    """As billing shows the request."""


def known_of(demo: DemoRun, requests: Collection[str]) -> dict[str, Known]:
    """By request; each had one attempt."""
    assert demo.endpoints.admin_token is not None
    until = time.monotonic() + KNOWN_WITHIN_SECONDS
    with Billing(demo.endpoints.billing_url, demo.endpoints.admin_token) as billing:
        while True:
            yielded = _yielded(demo, requests)
            documents = {request: found for request in requests if (found := _document(billing, request))}
            if len(yielded) == len(documents) == len(requests):
                break
            assert time.monotonic() < until, (requests, yielded, documents)
            time.sleep(0.5)
    return {
        request: Known(yielded[request], _billed(document), document)
        for request, document in documents.items()
    }


def _yielded(demo: DemoRun, requests: Collection[str]) -> dict[str, Counted]:
    """By the replica's own records of the attempts that have ended."""
    with psycopg.connect(demo.endpoints.database_url) as books:
        rows = books.execute(
            "SELECT request_id::text, prompt, cached, output FROM engine_records"
            " WHERE request_id = ANY(%s::uuid[]) AND finished_at IS NOT NULL",
            [list(requests)],
        )
        return {request: Counted(*counts) for request, *counts in rows}


def _document(billing: Billing, request: str) -> dict[str, Any] | None:
    try:
        document = billing.get(f"/v1/requests/{request}")
    except BillingRefused as refused:
        if refused.code == "not_found":
            return None
        raise
    return document if document["grade"] == "final" and document["ledger"] else None


def _billed(document: dict[str, Any]) -> Counted:
    tokens = document["events"][-1]["tokens"]
    return Counted(
        prompt=tokens["input_uncached"] + tokens["cache_read"] + tokens["cache_write"],
        cached=tokens["cache_read"],
        output=tokens["output_visible"] + tokens["reasoning"],
    )
