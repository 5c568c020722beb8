"""One table tells what each refusal is in HTTP, and no refusal is missing from it."""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import replace

import httpx2
import pytest

import headrace_billing
from headrace_billing.app import compose
from headrace_billing.database import Database
from headrace_billing.errors import BillingError, RoleMissing, ScopeMissing
from headrace_billing.members.member import RoleTooHigh
from headrace_billing.members.permission import Permission, Role
from headrace_billing.parts import Parts
from headrace_billing.problems import STATUSES
from headrace_contracts.access import KeyScope
from tests.billing.seller import Seller


def refusals(base: type[BillingError] = BillingError) -> Iterator[type[BillingError]]:
    for kind in base.__subclasses__():
        yield kind
        yield from refusals(kind)


def test_every_code_has_a_status_and_every_refusal_a_code() -> None:
    for module in pkgutil.walk_packages(headrace_billing.__path__, "headrace_billing."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    missing = {kind.code for kind in refusals()} - STATUSES.keys()
    assert missing == set()


def test_scopes_roles_and_permissions_are_named_as_callers_write_them() -> None:
    assert "lacks the scope `usage:read`." in str(ScopeMissing(KeyScope.USAGE_READ))
    assert "The role `read-only` does not include `keys:write`." in str(
        RoleMissing(Role.READ_ONLY, Permission.KEYS_WRITE)
    )
    assert "The role `admin` has no say over `owner`:" in str(RoleTooHigh(Role.ADMIN, Role.OWNER))


def test_a_refusal_is_never_a_success() -> None:
    assert all(400 <= status < 600 for status in STATUSES.values())


@pytest.mark.parametrize(
    ("body", "at", "why"),
    [
        ({"name": "Millrace", "limits": None}, "body.limits", "Input should be a valid array"),
        ({"name": "Millrace", "limits": ["none"]}, "body.limits.0", "Input should be an object"),
        ([], "body", "Input should be an object"),
    ],
)
async def test_what_is_wrong_with_a_body_is_said_in_the_words_of_json(
    seller: Seller, body: object, at: str, why: str
) -> None:
    answer = await seller.ask("POST", "/v1/organizations", body)
    assert answer.status_code == 400
    assert answer.json()["errors"] == [{"at": at, "why": why}]


async def test_a_database_that_is_gone_is_a_reason_to_come_back(parts: Parts) -> None:
    nowhere = Database("postgresql://nobody:nothing@127.0.0.1:1/nowhere")
    transport = httpx2.ASGITransport(app=compose(replace(parts, database=nowhere)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://billing") as http:
        answer = await Seller(http).ask("POST", "/v1/organizations", {"name": "Millrace Analytics"})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"]
    await nowhere.close()
