"""The API does as its OpenAPI document says: whatever is sent gets an answer or a problem, and no failure of ours."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from headrace_contracts import channels
from tests.billing.seller import ADMIN_TOKEN, INGEST_TOKEN, Customer, Seller
from tests.billing.test_processes import environment, running, until

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
METER_TOKEN = "the meter's token"
EXAMPLES_A_MODE = 10
"""Of each operation; with twenty times as many it passed as well."""


async def test_no_request_makes_the_api_fail(
    database_url: str, valkey_url: str, valkey: Redis, unused_port: Callable[[], int]
) -> None:
    port = unused_port()
    url = f"http://127.0.0.1:{port}"
    await valkey.set(channels.EPOCH, "1")
    with running("headrace_billing", "api", env=environment(database_url, valkey_url, port)):
        async with httpx2.AsyncClient(base_url=url, timeout=20) as http:

            async def ready() -> bool:
                try:
                    return (await http.get("/readyz")).status_code == 200
                except httpx2.TransportError:
                    return False

            await until(ready)
            known = await _known(Seller(http))
            document = (await http.get("/openapi.json")).json()
            await asyncio.to_thread(_ask_everything, document, url, known)


async def _known(seller: Seller) -> dict[str, str]:
    """Things there are, by the names that paths, queries and bodies give them: half of the requests name these."""
    await seller.publish_prices()
    customer: Customer = await seller.customer()
    account = await seller.post("/v1/service-accounts", {"project": customer.project, "name": "builds"})
    grant = await seller.grant("1.00", wallet=customer.wallet)
    meter = await seller.post("/v1/meters", {"name": "rack 1"})
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
        "meter": meter["id"],
        "meter_id": meter["id"],
        METER_TOKEN: meter["token"],
    }


def _ask_everything(document: dict[str, Any], url: str, known: dict[str, str]) -> None:
    schema = schemathesis.openapi.from_dict(document)
    asked = set()
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        asked.add(operation.label)
        _ask(operation, GenerationMode.POSITIVE, url, known)
        if operation.body or operation.query or operation.path_parameters:
            _ask(operation, GenerationMode.NEGATIVE, url, known)
    assert len(asked) == sum(len(operations) for operations in document["paths"].values())


def _ask(
    operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, url: str, known: dict[str, str]
) -> None:
    token = INGEST_TOKEN if operation.path.startswith("/internal/") else ADMIN_TOKEN
    if operation.path == "/v1/usage-events":
        token = known[METER_TOKEN]

    @settings(
        max_examples=EXAMPLES_A_MODE,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), exists=st.booleans(), key=st.uuids())
    def ask(case: Case[Any], exists: bool, key: object) -> None:
        if exists:
            for named in (case.path_parameters, case.query, case.body):
                if isinstance(named, dict):
                    named |= {name: known[name] for name in named if name in known}
        headers = {"authorization": f"Bearer {token}", "idempotency-key": str(key), "if-match": '"1"'}
        answer = case.call(base_url=url, headers=headers)
        case.validate_response(answer, checks=CHECKS)

    ask()
