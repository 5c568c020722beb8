"""What of a deployment's spec stands in the gateways' table, and that it is no business of its engines."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from headrace_contracts.deployments import Deployment, decode_table
from headrace_platform.control.render import render
from headrace_platform.control.route import STEERING, render_route, table
from headrace_platform.control.rules import violations
from tests.platform.control.examples import NAMES, deployment, environment

MARCH, JUNE = datetime(2027, 3, 1, tzinfo=UTC), datetime(2027, 6, 1, 12, tzinfo=UTC)

EVERYTHING: dict[str, Any] = {
    "routing.weight": 40,
    "routing.projects": ["proj_1", "proj_2"],
    "routing.waitSeconds": 90,
    "lifecycle": {"deprecatedAt": "2027-03-01T00:00:00Z", "sunsetAt": "2027-06-01T14:00:00+02:00"},
}


def lines(name: str, changes: dict[str, Any] | None = None) -> list[Deployment]:
    """As a gateway reads them from the ConfigMap."""
    wanted = deployment(name, changes)
    assert violations(wanted, environment()) == []
    [text] = render_route(wanted, environment())["data"].values()
    return decode_table(text.encode()).deployments


@pytest.mark.parametrize(("name", "own"), [("small", {}), ("dedicated", {"routing.overflow": True})])
def test_a_gateway_reads_what_the_spec_says_of_requests(name: str, own: dict[str, Any]) -> None:
    [line] = lines(name, EVERYTHING | own)
    assert (line.weight, line.projects, line.wait_seconds) == (40, ["proj_1", "proj_2"], 90)
    assert (line.deprecated_at, line.sunset_at) == (MARCH.timestamp(), JUNE.timestamp())
    assert line.overflow is bool(own)
    assert line.tenant == (None if name == "small" else "acme")


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_that_says_nothing_leaves_them_to_the_gateway(name: str) -> None:
    for line in lines(name):
        unsaid = Deployment(
            id="",
            model="",
            url="http://engine",
            engine_model="",
            revision="",
            context_tokens=1,
            prompt_overhead_tokens=0,
        )
        for field in set(STEERING) - {"slots"}:
            assert getattr(line, field) == getattr(unsaid, field)


def test_clusters_divide_the_weight_so_that_the_share_is_the_deployment_s() -> None:
    assert len(lines("many-clusters")) == 3
    assert [line.weight for line in lines("many-clusters", {"routing.weight": 95})] == [32, 32, 31]
    assert [line.weight for line in lines("many-clusters", {"routing.weight": 0})] == [0, 0, 0]


@pytest.mark.parametrize("name", NAMES)
def test_engines_are_rendered_the_same_whatever_requests_they_are_sent(name: str) -> None:
    tenant = {"routing.overflow": True} if deployment(name).spec.tenant_ref else {}
    changed = deployment(name, EVERYTHING | tenant)
    assert render(changed, environment()) == render(deployment(name), environment())
    # Beside the policy, which is Serve's, the group holds nothing that this test does not change.
    routing, lifecycle = changed.spec.routing, changed.spec.lifecycle
    assert lifecycle is not None
    said = msgspec.structs.asdict(routing) | msgspec.structs.asdict(lifecycle)
    assert {field for field, value in said.items() if value is None} == (set() if tenant else {"overflow"})


def test_steering_is_of_fields_that_a_line_has() -> None:
    [line] = table(deployment("small"), environment()).deployments
    assert set(STEERING) <= set(line.__struct_fields__)
