"""Whatever the schema takes is either rendered to what a cluster takes, or refused with reasons."""

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace_platform.control.command import documents
from headrace_platform.control.deployment import decode
from headrace_platform.control.labels import Manifest
from headrace_platform.control.render import render
from headrace_platform.control.route import render_route
from headrace_platform.control.rules import violations
from tests.platform.control.examples import body, environment
from tests.platform.control.specs import changed_examples, deployments, names, namespaces
from tests.platform.control.validation import pod_specs, problems, unrestricted

# Generous, so that rules on quantity don't hide what rendering does with it.
ENVIRONMENT = environment({"quotas": {"acme": {"h200": 10**9}}, "sharedQuota": {"h200": 10**9, "cpu": 10**9}})

SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def rendered(whole: dict[str, Any]) -> list[Manifest]:
    """Nothing where a rule is broken."""
    deployment = decode(whole)
    found = violations(deployment, ENVIRONMENT)
    assert all(violation.path and violation.message for violation in found)
    if found:
        return []
    return [*render(deployment, ENVIRONMENT), render_route(deployment, ENVIRONMENT)]


@settings(SLOW, max_examples=150)
@given(deployments())
def test_anything_that_the_schema_takes_is_rendered_or_refused(whole: dict[str, Any]) -> None:
    rendered(whole)


@settings(SLOW, max_examples=60)
@given(changed_examples())
def test_what_is_rendered_is_taken_by_a_cluster(whole: dict[str, Any]) -> None:
    for manifest in rendered(whole):
        assert problems(manifest) == []
        for pod in pod_specs(manifest):
            assert unrestricted(pod) == []


@settings(SLOW, max_examples=60)
@given(changed_examples())
def test_the_same_deployment_is_rendered_to_the_same_bytes(whole: dict[str, Any]) -> None:
    once, again = rendered(whole), rendered(json.loads(json.dumps(whole)))
    assert documents(tuple(once)) == documents(tuple(again))


@settings(SLOW, max_examples=60)
@given(changed_examples())
def test_names_stay_within_what_kubernetes_and_kuberay_allow(whole: dict[str, Any]) -> None:
    for manifest in rendered(whole):
        bound = 47 if manifest["kind"] == "RayService" else 253
        assert len(manifest["metadata"]["name"]) <= bound
        for value in manifest["metadata"].get("labels", {}).values():
            assert len(value) <= 63


@settings(SLOW, max_examples=60)
@given(changed_examples())
def test_secrets_are_named_and_never_told(whole: dict[str, Any]) -> None:
    for manifest in rendered(whole):
        for pod in pod_specs(manifest):
            for container in [*pod["containers"], *pod.get("initContainers", ())]:
                for variable in container["env"]:
                    secret = any(word in variable["name"] for word in ("TOKEN", "KEY", "PASSWORD", "SECRET"))
                    assert ("valueFrom" in variable) == secret, variable["name"]
        assert manifest["kind"] != "Secret"


@settings(SLOW, max_examples=40)
@given(names, names, namespaces, namespaces)
def test_no_deployment_has_a_name_in_common_with_another(one: str, other: str, here: str, there: str) -> None:
    def identities(name: str, namespace: str) -> set[tuple[str, ...]]:
        whole = body("air-gapped")
        whole["metadata"] |= {"name": name, "namespace": namespace}
        deployment = decode(whole)
        found = {
            (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"])
            for each in render(deployment, ENVIRONMENT)
        }
        return found | {("entry", key) for key in render_route(deployment, ENVIRONMENT)["data"]}

    if (one, here) != (other, there):
        assert identities(one, here).isdisjoint(identities(other, there))
    # The likeliest clashes: names that end as ours do.
    for suffix in ("-c1", "-head", "-pods", "-weights"):
        longer = one[: 40 - len(suffix)].rstrip("-") + suffix
        if longer != one:
            assert identities(one, here).isdisjoint(identities(longer, here))


@settings(SLOW, max_examples=60)
@given(changed_examples(), st.sampled_from(["acme", "umbrella"]))
def test_one_tenant_s_objects_name_no_other_tenant(whole: dict[str, Any], org: str) -> None:
    whole["spec"]["tenantRef"] = {"org": org}
    whole["spec"]["exposure"] = {"hostname": "models.example.com"}
    other = {"acme": "umbrella", "umbrella": "acme"}[org]
    tenants = ("acme", "umbrella")
    settings_ = environment(
        {
            "quotas": {each: {"h200": 10**9} for each in tenants},
            "hostnames": {each: ["models.example.com"] for each in tenants},
        }
    )
    deployment = decode(whole)
    if violations(deployment, settings_):
        return
    texts = json.dumps([*render(deployment, settings_), render_route(deployment, settings_)])
    owned = json.dumps(whole)
    assert other not in texts or other in owned


@settings(SLOW, max_examples=60)
@given(changed_examples(), st.datetimes(timezones=st.just(UTC)))
def test_at_any_hour_a_deployment_stays_within_what_it_may_ever_have(
    whole: dict[str, Any], moment: datetime
) -> None:
    deployment = decode(whole)
    if not violations(deployment, ENVIRONMENT):
        scaling = deployment.spec.scaling
        assert scaling.at(moment).replicas_least <= scaling.at(moment).replicas_most <= scaling.replicas_most
