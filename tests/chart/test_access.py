"""The operator may do what it does and no more: its role beside the table of kinds that it works with."""

from typing import Any

import pytest

from tests.chart.helm import NAMESPACE, Helm, Manifest, Release
from tests.chart.operator import needed_part
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


@pytest.fixture
def kinds() -> Any:
    """The operator's own table."""
    return needed_part("resource")


def test_the_operator_may_make_what_a_deployment_is_rendered_into(helm: Helm, kinds: Any) -> None:
    with_folders = helm.render(merged(EXTERNAL, {"engine": {"hostPaths": ["/srv/weights"]}}))
    for kind in kinds.RENDERED:
        role = rules(with_folders, "Role" if kind.is_namespaced else "ClusterRole")
        assert allowed(role, kind.group, kind.plural) >= {"get", "list", *WRITES}, kind.plural


def test_the_operator_may_watch_what_tells_it_of_changes(helm: Helm, kinds: Any) -> None:
    role = rules(helm.render(EXTERNAL))
    for kind in (kinds.DEPLOYMENTS, kinds.RAY_SERVICES, kinds.PODS):
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


def test_the_operator_reads_no_secret_and_has_nothing_of_the_whole_cluster_but_volumes(helm: Helm) -> None:
    for values in RELEASES.values():
        release = helm.render(values)
        every = rules(release) + rules(release, "ClusterRole")
        words = {word for rule in every for key in ("apiGroups", "resources", "verbs") for word in rule[key]}
        assert not {"*", "secrets", "serviceaccounts", "roles", "pods/exec"} & words
        assert all(rule["resources"] == ["persistentvolumes"] for rule in rules(release, "ClusterRole"))
    assert helm.render(EXTERNAL).of_kind("ClusterRole", "ClusterRoleBinding") == []


def test_every_binding_is_of_a_role_and_an_account_that_are_there(helm: Helm) -> None:
    release = helm.render(RELEASES["everything"])
    accounts = {(account["metadata"]["name"], NAMESPACE) for account in release.of_kind("ServiceAccount")}
    bindings = release.of_kind("RoleBinding", "ClusterRoleBinding")
    assert len(bindings) == 2
    for binding in bindings:
        assert release.named(binding["roleRef"]["kind"], binding["roleRef"]["name"])
        assert {(subject["name"], subject["namespace"]) for subject in binding["subjects"]} <= accounts
