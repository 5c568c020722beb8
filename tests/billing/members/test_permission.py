"""The table of roles, and that every operation of the app has a line in it."""

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from headrace_billing.app import compose
from headrace_billing.members.operations import OPERATIONS, Open, Operation, Reach
from headrace_billing.members.ownership import KINDS
from headrace_billing.members.permission import Permission, Role, allows, outranked_by
from headrace_billing.parts import Parts
from tests.billing.members.reference import table

REFERENCE = Path(__file__).parents[3] / "docs/reference/roles.md"
ID_PATTERN = "^[A-Za-z0-9_-]{1,100}$"
NOT_THINGS = {"after", "actor", "object", "message", "plan", "plan_id", "……plan"}
"""A cursor, what is looked for only within what the caller may see anyway, and what is sold to everybody."""


@pytest.fixture
def app(parts: Parts) -> FastAPI:
    return compose(parts)


def operations(app: FastAPI) -> dict[str, dict[str, Any]]:
    return {
        operation["operationId"]: operation
        for methods in app.openapi()["paths"].values()
        for operation in methods.values()
    }


def test_every_route_of_the_app_has_a_line_and_every_line_a_route(app: FastAPI) -> None:
    routes = sum(len(methods) for methods in app.openapi()["paths"].values())
    assert set(operations(app)) == set(OPERATIONS)
    assert routes == len(OPERATIONS), "two routes share a name"


def test_an_owner_may_do_everything_and_a_reader_changes_nothing() -> None:
    assert all(allows(Role.OWNER, permission) for permission in Permission)
    assert not any(allows(Role.READ_ONLY, each) for each in Permission if each.value.endswith(":write"))
    assert not allows(Role.READ_ONLY, Permission.APPROVALS_DECIDE)


def test_money_is_no_developer_s_and_keys_are_no_accountant_s() -> None:
    assert not allows(Role.DEVELOPER, Permission.MONEY_WRITE)
    assert not allows(Role.FINANCE, Permission.KEYS_WRITE)


def test_nobody_has_a_say_over_who_stands_above() -> None:
    assert outranked_by(Role.ADMIN, Role.OWNER)
    assert outranked_by(Role.FINANCE, Role.ADMIN)
    assert not outranked_by(Role.OWNER, Role.OWNER)
    assert not outranked_by(Role.ADMIN, Role.READ_ONLY)


def test_every_id_that_an_organisation_s_member_may_name_is_held_to_its_organisation(app: FastAPI) -> None:
    document = app.openapi()
    loose = {}
    for name, operation in operations(app).items():
        line = OPERATIONS[name]
        if isinstance(line, Operation) and line.reach is not Reach.SELLER:
            loose[name] = _ids(operation, document) - set(KINDS) - NOT_THINGS
    assert not {name: ids for name, ids in loose.items() if ids}


def test_what_needs_a_name_takes_one(app: FastAPI) -> None:
    document = app.openapi()
    for name, operation in operations(app).items():
        line = OPERATIONS[name]
        if isinstance(line, Operation) and line.reach is Reach.NAMED:
            assert _ids(operation, document) & set(KINDS), name


def test_the_reference_shows_the_table_as_it_is() -> None:
    assert table() in REFERENCE.read_text()


def test_machines_and_probes_are_the_only_ones_that_need_no_member() -> None:
    assert {name for name, line in OPERATIONS.items() if line in (Open.TO_ALL, Open.TO_MACHINES)} == {
        "healthz",
        "readyz",
        "take_usage_events",
        "take_engine_records",
        "take_gpu_time",
        "report_usage",
        "take_webhook",
    }


def _ids(operation: dict[str, Any], document: dict[str, Any]) -> set[str]:
    """The parameters and members of the body that take an id; nested ones by other names, for nobody looks at them."""
    found = {each["name"] for each in operation.get("parameters", ()) if _is_id(each["schema"])}
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return found | _ids_of_body(content.get("schema", {}), document)


def _ids_of_body(schema: dict[str, Any], document: dict[str, Any]) -> set[str]:
    if not schema:
        return set()
    if "$ref" in schema:
        return _ids_of_body(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    found = {name for name, each in schema.get("properties", {}).items() if _is_id(each)}
    nested = [*schema.get("properties", {}).values(), *schema.get("anyOf", ()), schema.get("items", {})]
    return found.union(*({f"…{name}" for name in _ids_of_body(each, document)} for each in nested))


def _is_id(schema: dict[str, Any]) -> bool:
    return any(each.get("pattern") == ID_PATTERN for each in [schema, *schema.get("anyOf", ())])
