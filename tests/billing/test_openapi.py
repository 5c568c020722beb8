"""The API does as its OpenAPI document says: whatever is sent gets an answer or a problem, and no failure of ours."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import httpx2
from redis.asyncio import Redis

from headrace_contracts import channels
from tests.billing.answers import closed, document
from tests.billing.seller import ADMIN_TOKEN, INGEST_TOKEN, Customer, Seller
from tests.billing.test_processes import environment, running, until
from tests.support.openapi import ask_everything

METER_TOKEN = "the meter's token"
API_KEY = "a customer's key"


UNTOLD = {
    # Written as bytes, for gateways and the operator alone.
    *("take_usage_events", "take_gpu_time"),
    # No JSON.
    *("show_pdf", "show_credit_note_pdf", "export_focus", "show_file_content"),
    *("show_factur_x", "show_invoice_xml", "show_credit_note_factur_x", "show_credit_note_xml"),
    # As OpenAI's own document has them.
    *("upload_file", "list_files", "show_file", "remove_file"),
    *("add_batch", "list_batches", "show_batch", "cancel_batch"),
}


def test_the_document_says_what_each_operation_answers_with() -> None:
    untold = set()
    for operations in document()["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status.startswith("2") and status != "204" and not _is_told(response):
                    untold.add(operation["operationId"])
    assert untold == UNTOLD


def _is_told(response: dict[str, Any]) -> bool:
    """By a name, by its members or by what they all are."""
    schema = response.get("content", {}).get("application/json", {}).get("schema", {})
    return "$ref" in schema or "properties" in schema or isinstance(schema.get("additionalProperties"), dict)


async def test_no_request_makes_the_api_fail(
    database_url: str, valkey_url: str, valkey: Redis, unused_port: Callable[[], int]
) -> None:
    port = unused_port()
    url = f"http://127.0.0.1:{port}"
    await valkey.set(channels.EPOCH, "1")
    env = environment(database_url, valkey_url, port) | {"HEADRACE_BILLING_GATEWAY_URL": "http://127.0.0.1:9"}
    with running("headrace_billing", "api", env=env):
        async with httpx2.AsyncClient(base_url=url, timeout=20) as http:

            async def ready() -> bool:
                try:
                    return (await http.get("/readyz")).status_code == 200
                except httpx2.TransportError:
                    return False

            await until(ready)
            known = await _known(Seller(http))
            served = (await http.get("/openapi.json")).json()
            await asyncio.to_thread(
                ask_everything, closed(served), url, known, partial(_headers, known=known)
            )


async def _known(seller: Seller) -> dict[str, str]:
    """Things there are, by the names that paths, queries and bodies give them: half of the requests name these."""
    await seller.publish_prices()
    customer: Customer = await seller.customer()
    account = await seller.post("/v1/service-accounts", {"project": customer.project, "name": "builds"})
    grant = await seller.grant("1.00", wallet=customer.wallet)
    meter = await seller.post("/v1/meters", {"name": "rack 1"})
    contract = await seller.post(
        "/v1/contracts",
        {
            "organization": customer.org,
            "name": "framework",
            "currency": "USD",
            "starts_on": f"{datetime.now(UTC):%Y-%m}-01",
            "months": 12,
            "cadence": "monthly",
            "projects": [customer.project],
            "terms": {"commitment": {"funding": "prepaid", "amounts": ["90"]}},
        },
    )
    return {
        "organization": customer.org,
        "project": customer.project,
        "wallet": customer.wallet,
        "currency": "USD",
        "from": "2026-11-01T00:00:00Z",
        "to": "2026-12-01T00:00:00Z",
        "organization_id": customer.org,
        "project_id": customer.project,
        "wallet_id": customer.wallet,
        "key_id": customer.key,
        "account_id": account["id"],
        "grant_id": grant["id"],
        "contract_id": contract["id"],
        "meter": meter["id"],
        "meter_id": meter["id"],
        METER_TOKEN: meter["token"],
        API_KEY: customer.secret,
        **await _handed_in(seller, customer),
    }


async def _handed_in(seller: Seller, customer: Customer) -> dict[str, str]:
    headers = {"authorization": f"Bearer {customer.secret}"}
    form = {"file": ("in.jsonl", b"{}")}
    answer = await seller.http.post("/v1/files", data={"purpose": "batch"}, files=form, headers=headers)
    file = answer.json()["id"]
    body = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = (await seller.http.post("/v1/batches", json=body, headers=headers)).json()["id"]
    return {"file_id": file, "input_file_id": file, "batch_id": batch}


def _headers(path: str, known: dict[str, str]) -> dict[str, str]:
    token = INGEST_TOKEN if path.startswith("/internal/") else ADMIN_TOKEN
    if path == "/v1/usage-events":
        token = known[METER_TOKEN]
    elif path.startswith(("/v1/files", "/v1/batches")):
        token = known[API_KEY]
    return {"authorization": f"Bearer {token}", "idempotency-key": str(uuid4()), "if-match": '"1"'}
