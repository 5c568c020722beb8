"""The client: what it repeats and what not, how it reads long lists, and what it asks of the server."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace_platform.control import kubernetes_api
from headrace_platform.control.kubernetes_api import (
    Access,
    ApiRefused,
    ApiUnavailable,
    Conflict,
    KubernetesApi,
)
from headrace_platform.control.resource import CONFIG_MAPS, POD_MONITORS, Resource
from tests.platform.control.live.ground import Ground
from tests.support.kubernetes.calls import Fault

CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "models"}}


@pytest.fixture
async def api(ground: Ground) -> AsyncIterator[KubernetesApi]:
    async with KubernetesApi(Access(ground.server.url), "tester", backoff_seconds_min=0.001) as client:
        yield client


async def test_a_list_of_many_pages_is_read_whole(
    ground: Ground, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_api, "PAGE_MAX", 2)
    for number in range(5):
        metadata = {"name": f"c{number}", "namespace": "models", "labels": {"a": str(number % 2)}}
        await api.create(CONFIG_MAPS, {"metadata": metadata})
    assert len(await api.items(CONFIG_MAPS, "models")) == 5
    assert len(await api.items(CONFIG_MAPS, "models", {"a": None})) == 5
    (first, second) = await api.items(CONFIG_MAPS, "models", {"a": "1"})
    assert (first["kind"], second["metadata"]["name"]) == ("ConfigMap", "c3")


async def test_a_kind_that_the_cluster_does_not_have_has_no_objects(api: KubernetesApi) -> None:
    assert await api.items(Resource("example.com", "v1", "things", "Thing"), "models") == []
    assert await api.get(POD_MONITORS, "models", "none") is None


async def test_a_refusal_is_not_repeated_and_says_what_the_server_said(
    ground: Ground, api: KubernetesApi
) -> None:
    before = len(ground.server.calls)
    with pytest.raises(ApiRefused, match=r"namespaces \"nowhere\" not found"):
        await api.create(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "nowhere"}})
    assert len(ground.server.calls) == before + 1


async def test_a_busy_server_is_asked_again_a_bounded_number_of_times(
    ground: Ground, api: KubernetesApi
) -> None:
    before = len(ground.server.calls)
    ground.server.script.faults.append(Fault(lambda _: True, status=429, times=100))
    with pytest.raises(ApiUnavailable, match="HTTP 429"):
        await api.get(CONFIG_MAPS, "models", "a")
    assert len(ground.server.calls) == before + kubernetes_api.ATTEMPTS_MAX


async def test_a_change_is_made_to_what_was_seen_and_to_nothing_else(
    ground: Ground, api: KubernetesApi
) -> None:
    seen = await api.create(CONFIG_MAPS, CONFIG_MAP)
    await api.change(CONFIG_MAPS, seen, {"data": {"a": "1"}})
    with pytest.raises(Conflict):
        await api.change(CONFIG_MAPS, seen, {"data": {"a": "2"}})
    await ground.kube.delete("/api/v1/namespaces/models/configmaps/a")
    again = await api.create(CONFIG_MAPS, CONFIG_MAP)
    await api.delete(CONFIG_MAPS, seen)
    assert await api.get(CONFIG_MAPS, "models", "a") == again, "it has the name and is another"
    await api.delete(CONFIG_MAPS, again)
    await api.delete(CONFIG_MAPS, again)


async def test_a_renewed_token_is_used_from_the_next_request_on(ground: Ground, tmp_path: Path) -> None:
    token = tmp_path / "token"
    ground.server.token = "second"
    token.write_text("first\n")
    async with KubernetesApi(Access(ground.server.url, token), "tester") as api:
        with pytest.raises(ApiRefused):
            await api.get(CONFIG_MAPS, "models", "a")
        token.write_text("second\n")
        assert await api.get(CONFIG_MAPS, "models", "a") is None
