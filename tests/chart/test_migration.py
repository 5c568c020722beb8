"""The database comes to its revision before the pods that need it, with a database that is there and one that comes."""

import pytest

from tests.chart.helm import Helm, Manifest, Release
from tests.chart.releases import DEV, EXTERNAL, RELEASES, merged


def job(release: Release) -> Manifest:
    (found,) = release.of_kind("Job")
    return found


def test_with_a_database_that_is_there_the_migration_comes_before_the_release(helm: Helm) -> None:
    annotations = job(helm.render(EXTERNAL))["metadata"]["annotations"]
    assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"


def test_what_the_hook_needs_is_there_before_it(helm: Helm) -> None:
    release = helm.render(EXTERNAL)
    policy = release.named("NetworkPolicy", "headrace-migration")["metadata"]["annotations"]
    own = job(release)["metadata"]["annotations"]
    assert policy["helm.sh/hook"] == own["helm.sh/hook"]
    assert int(policy["helm.sh/hook-weight"]) < int(own["helm.sh/hook-weight"])
    pod = job(release)["spec"]["template"]["spec"]
    assert "serviceAccountName" not in pod
    assert "volumes" not in pod


@pytest.mark.parametrize("name", ["dev", "eks", "dev-secrets-from-a-store"])
def test_what_the_release_itself_brings_can_be_no_hook_s_need(helm: Helm, name: str) -> None:
    release = helm.render(RELEASES[name])
    assert "annotations" not in job(release)["metadata"]
    assert "annotations" not in release.named("NetworkPolicy", "headrace-migration")["metadata"]


def test_a_new_image_is_a_new_job_and_nothing_new_is_the_same(helm: Helm) -> None:
    first, again, newer = (
        job(helm.render(merged(DEV, {"images": {"billing": {"tag": tag}}})))["metadata"]["name"]
        for tag in ("1.0.0", "1.0.0", "1.0.1")
    )
    assert first == again != newer


def test_whoever_needs_the_database_waits_for_its_schema(helm: Helm) -> None:
    release = helm.render(EXTERNAL)
    for name in ("headrace-billing", "headrace-billing-worker"):
        (waiting,) = release.named("Deployment", name)["spec"]["template"]["spec"]["initContainers"]
        assert waiting["args"] == ["wait-schema"]
        assert waiting["image"] == job(release)["spec"]["template"]["spec"]["containers"][0]["image"]


def test_an_upgrade_replaces_pods_only_when_the_new_ones_are_ready(helm: Helm) -> None:
    release = helm.render(EXTERNAL)
    for name in ("headrace-gateway", "headrace-billing", "headrace-billing-worker"):
        assert release.named("Deployment", name)["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
