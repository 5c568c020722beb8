"""The gateway's slots and Serve's queue, which hold together what the gateways let through."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_platform.catalog.serve import USUAL_QUEUED
from headrace_platform.control.clusters import clusters
from headrace_platform.control.route import table
from headrace_platform.control.serve_application import serve_config, slots
from tests.platform.control.examples import NAMES, deployment, environment

FIXED = {"scaling": {"mode": "fixed", "replicas": 3}}
POLICY = {"scaling": {"mode": "policy", "minReplicas": 1, "maxReplicas": 3}}
TO_ZERO = {"scaling": {"mode": "policy", "minReplicas": 1, "maxReplicas": 3, "scaleToZeroAfterSeconds": 600}}
EXTERNAL = {"scaling": {"mode": "external", "replicas": 2, "minReplicas": 1, "maxReplicas": 3}}


def held(changes: dict[str, Any]) -> tuple[int, int, int]:
    """Slots in replicas' worth; what Serve queues beside the usual, in the same; and what a replica takes."""
    spec, here = deployment("small", changes), environment()
    [cluster] = clusters(spec, here)
    [options] = serve_config(spec, cluster, here)["applications"][0]["deployments"]
    [line] = table(spec, here).deployments
    ongoing = options["max_ongoing_requests"]
    assert line.slots is not None
    assert line.slots % ongoing == 0
    beside = options["max_queued_requests"] - USUAL_QUEUED
    assert beside % ongoing == 0
    return line.slots // ongoing, beside // ongoing, ongoing


@pytest.mark.parametrize(
    ("changes", "replicas", "to_come"),
    [(FIXED, 3, 0), (POLICY, 3, 2), (TO_ZERO, 3, 3), (EXTERNAL, 2, 0)],
)
def test_slots_are_what_the_most_replicas_take_and_serve_queues_what_those_to_come_would(
    changes: dict[str, Any], replicas: int, to_come: int
) -> None:
    assert held(changes)[:2] == (replicas, to_come)


def test_a_queue_that_was_asked_for_is_the_queue() -> None:
    changes = POLICY["scaling"] | {"targets": {"queuedRequestsMax": 7, "ongoingRequestsMax": 5}}
    spec, here = deployment("small", {"scaling": changes}), environment()
    [cluster] = clusters(spec, here)
    [options] = serve_config(spec, cluster, here)["applications"][0]["deployments"]
    assert (options["max_queued_requests"], options["max_ongoing_requests"]) == (7, 5)
    assert table(spec, here).deployments[0].slots == 15


@pytest.mark.parametrize("name", NAMES)
def test_every_engine_salts_its_cache(name: str) -> None:
    assert all(line.salts_cache for line in table(deployment(name), environment()).deployments)


@given(
    ready=st.integers(0, 60),
    most=st.integers(1, 40),
    target=st.integers(1, 200),
    ongoing_max=st.integers(1, 200),
)
def test_slots_follow_those_that_answer_and_always_show_serve_the_need_of_one_more(
    ready: int, most: int, target: int, ongoing_max: int
) -> None:
    targets = {"ongoingRequests": target, "ongoingRequestsMax": ongoing_max}
    scaling = {"mode": "policy", "minReplicas": 0, "maxReplicas": most, "targets": targets}
    spec, here = deployment("small", {"scaling": scaling}), environment()
    [cluster] = clusters(spec, here)
    of_ready = slots(spec, cluster, here, ready=ready)
    assert min(max(1, ready), most) * ongoing_max <= of_ready <= most * ongoing_max
    assert of_ready > min(max(1, ready) * target, most * ongoing_max - 1), "else it would never grow"
    assert slots(spec, cluster, here, ready=ready + 1) >= of_ready
