"""Guides do what they say: their values render, their commands exist, the first key is made by a real billing."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
import yaml

from headrace_platform.control.deployment import decode
from headrace_platform.control.render import render
from headrace_platform.control.rules import violations
from tests.chart.guide import ENTERPRISE, PARTNER, block
from tests.chart.helm import CHART, ROOT, Helm, Values
from tests.chart.operator import operator_environment
from tests.chart.releases import DEV, merged
from tests.chart.test_images import named
from tests.platform.control.validation import pod_specs
from tests.support.postgres import PostgresServer

GUIDES = pytest.mark.parametrize("guide", [PARTNER, ENTERPRISE], ids=lambda path: path.stem)


def values(*marks: str) -> Values:
    given = merged(*(yaml.safe_load(block(PARTNER, mark)) for mark in marks))
    source = given["modelDeployments"]["glm-4-5-air"]["model"]["source"]
    if "hostPath" in source:
        del source["s3"]  # as the text says
    return given


@pytest.mark.parametrize("marks", [("values",), ("values", "airgap")], ids=["open", "airgap"])
def test_its_values_render_to_what_the_operator_would_serve(helm: Helm, marks: tuple[str, ...]) -> None:
    release = helm.render(values(*marks))
    environment = operator_environment(release)
    (model,) = release.of_kind("ModelDeployment")
    placed = model | {"metadata": model["metadata"] | {"namespace": "models"}}
    assert violations(decode(placed), environment) == []


def test_an_organisation_s_deployment_is_one_that_the_operator_would_serve(helm: Helm) -> None:
    release = helm.render(merged(values("values"), yaml.safe_load(block(ENTERPRISE, "values"))))
    deployment = decode(yaml.safe_load(block(ENTERPRISE, "deployment")))
    assert violations(deployment, operator_environment(release)) == []
    of_tenants = {role["metadata"]["namespace"] for role in release.of_kind("Role")}
    assert deployment.metadata.namespace in of_tenants


def test_an_organisation_s_namespace_has_the_secrets_that_its_pods_name(helm: Helm) -> None:
    release = helm.render(merged(values("values"), yaml.safe_load(block(ENTERPRISE, "values"))))
    made = {
        name: set(re.findall(r"--from-literal=([\w-]+)=", rest))
        for name, rest in re.findall(
            r"create secret (?:generic|docker-registry) (\S+)(.*?)(?=\nkubectl|\Z)",
            block(ENTERPRISE, "namespace"),
            re.DOTALL,
        )
    }
    deployment = decode(yaml.safe_load(block(ENTERPRISE, "deployment")))
    pods = [
        pod for manifest in render(deployment, operator_environment(release)) for pod in pod_specs(manifest)
    ]
    asked = {
        (reference["name"], reference["key"])
        for pod in pods
        for container in (*pod["containers"], *pod.get("initContainers", ()))
        for variable in container["env"]
        if (reference := variable.get("valueFrom", {}).get("secretKeyRef"))
    }
    assert asked
    assert {key for name, key in asked if key not in made.get(name, ())} == set()
    assert {secret["name"] for pod in pods for secret in pod["imagePullSecrets"]} <= made.keys()


@pytest.mark.parametrize("marks", [("values",), ("values", "airgap")], ids=["open", "airgap"])
def test_its_values_are_taken(helm: Helm, marks: tuple[str, ...]) -> None:
    release = helm.render(values(*marks))
    assert [model["metadata"]["name"] for model in release.of_kind("ModelDeployment")] == ["glm-4-5-air"]


def test_its_secrets_have_the_names_and_keys_that_its_values_ask_for(helm: Helm) -> None:
    made: dict[str, set[str]] = {}
    for name, rest in re.findall(
        r"create secret (?:generic|docker-registry) (\S+)(.*?)(?=\nkubectl|\Z)",
        block(PARTNER, "secrets"),
        re.DOTALL,
    ):
        made[name] = set(re.findall(r"--from-literal=([\w-]+)=", rest))
    release = helm.render(values("values"))
    asked = {
        (reference["name"], reference["key"])
        for _, template in release.workloads()
        for container in (*template["spec"].get("initContainers", []), *template["spec"]["containers"])
        for variable in container["env"]
        if (reference := variable.get("valueFrom", {}).get("secretKeyRef"))
    }
    assert asked
    assert {key for name, key in asked if key not in made[name]} == set()
    assert {
        secret["name"]
        for _, template in release.workloads()
        for secret in template["spec"]["imagePullSecrets"]
    } <= made.keys()


def test_its_mirror_holds_whatever_a_release_without_a_way_out_names(helm: Helm, tmp_path: Path) -> None:
    copier = tmp_path / "skopeo"
    copier.write_text(f'#!/bin/sh\necho "$4" >> {tmp_path}/copied\n')
    copier.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.defpath}"}
    subprocess.run(["bash", "-euc", block(PARTNER, "mirror")], cwd=ROOT, env=env, check=True, timeout=60)
    copied = {line.removeprefix("docker://") for line in (tmp_path / "copied").read_text().splitlines()}
    registry = {"global": {"imageRegistry": "registry.example.internal"}}
    for released in (values("values", "airgap"), merged(DEV, registry)):
        for image in named(helm.render(released)):
            # A digest is of the very image that the tag names.
            assert any(have == image or have.startswith(f"{image.partition('@')[0]}:") for have in copied), (
                image
            )


@GUIDES
def test_its_commands_exist(guide: Path) -> None:
    text = guide.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", text)) <= targets
    for module in re.findall(r"python -m ([\w.]+)", text):
        path = ROOT / "platform" / "src" / Path(*module.split("."))
        assert path.with_suffix(".py").exists(), module
    for path in re.findall(r"(?:deploy|terraform|docs|billing)/[\w./-]*\w", text):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (guide.parent / link).exists(), link


@GUIDES
def test_the_services_that_it_forwards_are_there(helm: Helm, guide: Path) -> None:
    release = helm.render(values("values"))
    for kind, name in re.findall(
        r"(service|deployment)/([a-z-]+)", guide.read_text() + (CHART / "UPGRADING.md").read_text()
    ):
        assert release.named(kind.capitalize(), name)


async def test_its_first_key_is_made_by_billing_as_it_is(
    postgres_server: PostgresServer, valkey_url: str, unused_port: Callable[[], int]
) -> None:
    port = unused_port()
    token = "admin-token-of-the-guide"
    prefix = "HEADRACE_BILLING_"
    settings = {
        "DATABASE_URL": postgres_server.create_database(),
        "VALKEY_URL": valkey_url,
        "SIGNING_KEY": "ab" * 32,
        "ADMIN_TOKEN": token,
        "INGEST_TOKEN": "ingest-token-of-the-guide",
        "PORT": str(port),
    }
    env = {"PATH": os.environ["PATH"]} | {prefix + name: value for name, value in settings.items()}
    migration = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headrace_billing", "migrate", env=env
    )
    assert await migration.wait() == 0
    api = await asyncio.create_subprocess_exec(sys.executable, "-m", "headrace_billing", "api", env=env)
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            await healthy(http)
            made = await asyncio.to_thread(
                subprocess.run,
                ["bash", "-euo", "pipefail", "-c", block(PARTNER, "first key")],
                env={
                    "PATH": os.environ["PATH"],
                    "BILLING": str(http.base_url),
                    "ADMIN_TOKEN": token,
                    "NO_PROXY": "*",
                },
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
    finally:
        api.terminate()
        await api.wait()
    assert made.returncode == 0, made.stdout + made.stderr
    assert re.fullmatch(r"hr-[\w-]{40,}\n", made.stdout)


async def healthy(http: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                if (await http.get("/healthz")).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.05)
