"""The operator may do what it does and no more: its role beside the table of kinds that it works with."""

import pytest

from headrace_platform.control.resource import DEPLOYMENTS, PODS, RAY_SERVICES, RENDERED
from tests.chart.helm import NAMESPACE, Helm, Manifest, Release
from tests.chart.operator import Permission, documented_role
from tests.chart.releases import EXTERNAL, RELEASES, merged

WRITES = {"create", "patch", "delete"}


def rules(release: Release, kind: str = "Role") -> list[Manifest]:
    return [rule for role in release.of_kind(kind) for rule in role["rules"]]


def allowed(rules: list[Manifest], group: str, plural: str, name: str = "any") -> set[str]:
    """Verbs on an object of a kind."""
    return {
        verb
        for rule in rules
        if group in rule["apiGroups"]
        and plural in rule["resources"]
        and name in rule.get("resourceNames", [name])
        for verb in rule["verbs"]
    }


def test_the_operator_may_make_what_a_deployment_is_rendered_into(helm: Helm) -> None:
    with_folders = helm.render(merged(EXTERNAL, {"engine": {"hostPaths": ["/srv/weights"]}}))
    for kind in RENDERED:
        role = rules(with_folders, "Role" if kind.is_namespaced else "ClusterRole")
        assert allowed(role, kind.group, kind.plural) >= {"get", "list", *WRITES}, kind.plural


def test_the_operator_may_watch_what_tells_it_of_changes(helm: Helm) -> None:
    role = rules(helm.render(EXTERNAL))
    for kind in (DEPLOYMENTS, RAY_SERVICES, PODS):
        assert allowed(role, kind.group, kind.plural) >= {"get", "list", "watch"}, kind.plural
    assert allowed(role, "headrace.dev", "modeldeployments") == {"get", "list", "watch", "patch"}
    assert "patch" in allowed(role, "headrace.dev", "modeldeployments/status")


def test_the_operator_may_keep_its_lease_its_records_and_the_gateways_table(helm: Helm) -> None:
    role = rules(helm.render(EXTERNAL))
    assert allowed(role, "coordination.k8s.io", "leases", "headrace-operator") == {"create", "get", "patch"}
    assert allowed(role, "coordination.k8s.io", "leases", "another") == {"create"}
    assert allowed(role, "", "configmaps") == {"get", "list", *WRITES}
    assert allowed(role, "", "namespaces", NAMESPACE) == {"get"}
    assert allowed(role, "", "namespaces", "another") == set()


# It looks after namespaces that it is told, and so has no need to know of others.
ANY_NAMESPACE: set[Permission] = {("", "namespaces", "list"), ("", "namespaces", "watch")}


def test_the_operator_may_do_what_its_page_says_that_it_does(helm: Helm) -> None:
    release = helm.render(merged(EXTERNAL, {"engine": {"hostPaths": ["/srv/weights"]}}))
    every = rules(release) + rules(release, "ClusterRole")
    wanted = documented_role() - ANY_NAMESPACE
    assert len(wanted) > 50
    for group, plural, verb in wanted:
        name = {"leases": "headrace-operator", "namespaces": NAMESPACE}.get(plural, "any")
        assert verb in allowed(every, group, plural, name), plural


@pytest.mark.parametrize("values", RELEASES)
def test_the_operator_may_do_nothing_that_its_page_does_not_say(helm: Helm, values: str) -> None:
    """That what it does is on the page is held by a test of its process."""
    release = helm.render(RELEASES[values])
    granted = {
        (group, resource, verb)
        for rule in rules(release) + rules(release, "ClusterRole")
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert sorted(granted - documented_role()) == []


def test_the_operator_reads_no_secret_and_of_the_whole_cluster_only_which_kinds_there_are(helm: Helm) -> None:
    for values in RELEASES.values():
        release = helm.render(values)
        every = rules(release) + rules(release, "ClusterRole")
        words = {word for rule in every for key in ("apiGroups", "resources", "verbs") for word in rule[key]}
        assert not {"*", "secrets", "serviceaccounts", "roles", "pods/exec"} & words
        folders = values.get("engine", {}).get("hostPaths")
        of_the_cluster = {
            resource for rule in rules(release, "ClusterRole") for resource in rule["resources"]
        }
        assert of_the_cluster <= {"customresourcedefinitions", *(["persistentvolumes"] if folders else [])}


def test_every_binding_is_of_a_role_and_an_account_that_are_there(helm: Helm) -> None:
    release = helm.render(RELEASES["everything"])
    accounts = {
        (account["metadata"]["name"], account["metadata"].get("namespace", NAMESPACE))
        for account in release.of_kind("ServiceAccount")
    }
    roles = {
        (role["kind"], role["metadata"]["name"], role["metadata"].get("namespace"))
        for role in release.of_kind("Role", "ClusterRole")
    }
    bindings = release.of_kind("RoleBinding", "ClusterRoleBinding")
    assert len(bindings) == len(roles) == 4
    for binding in bindings:
        reference = binding["roleRef"]
        assert (reference["kind"], reference["name"], binding["metadata"].get("namespace")) in roles
        assert {(subject["name"], subject["namespace"]) for subject in binding["subjects"]} <= accounts


def test_in_a_tenant_s_namespace_the_operator_looks_after_deployments_and_no_more(helm: Helm) -> None:
    release = helm.render(RELEASES["everything"])
    by_namespace = {role["metadata"]["namespace"]: role["rules"] for role in release.of_kind("Role")}
    assert by_namespace.keys() == {NAMESPACE, "acme", "globex"}
    tenant = by_namespace["acme"]
    assert "patch" in allowed(tenant, "ray.io", "rayservices")
    assert allowed(tenant, "", "namespaces", "acme") == {"get"}
    for plural in ("configmaps", "leases", "httproutes"):
        assert not any(allowed(tenant, group, plural) for group in ("", "coordination.k8s.io", "gateway.networking.k8s.io"))  # fmt: skip
    (container,) = release.named("Deployment", "headrace-operator")["spec"]["template"]["spec"]["containers"]
    told = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert told["HEADRACE_OPERATOR_NAMESPACES"] == f"{NAMESPACE},acme,globex"


def test_tenants_engines_are_reached_and_reach_billing_as_those_of_all(helm: Helm) -> None:
    release = helm.render(RELEASES["everything"])
    engines = {
        "key": "kubernetes.io/metadata.name",
        "operator": "In",
        "values": [NAMESPACE, "acme", "globex"],
    }
    for name, way in (
        ("headrace-gateway", "egress"),
        ("headrace-operator", "egress"),
        ("headrace-billing", "ingress"),
    ):
        rules = release.named("NetworkPolicy", name)["spec"][way]
        peers = [peer for rule in rules for peer in rule.get("to", []) + rule.get("from", [])]
        assert engines in [
            expression
            for peer in peers
            for expression in peer.get("namespaceSelector", {}).get("matchExpressions", [])
        ], name


def test_an_incremental_upgrade_s_gateways_are_reached_by_whoever_sends_requests(helm: Helm) -> None:
    for values, wanted in (("everything", True), ("external", False)):
        release = helm.render(RELEASES[values])
        for name in ("headrace-gateway", "headrace-operator"):
            peers = [
                peer
                for rule in release.named("NetworkPolicy", name)["spec"]["egress"]
                for peer in rule.get("to", [])
            ]
            keys = {
                expression["key"]
                for peer in peers
                for expression in peer.get("podSelector", {}).get("matchExpressions", [])
            }
            assert ("gateway.networking.k8s.io/gateway-name" in keys) is wanted, (values, name)
