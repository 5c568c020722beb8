"""images.txt holds exactly the images that the chart can name: what a registry without a way out must have."""

import json
import re
from collections.abc import Iterator

from tests.chart.helm import CHART, Helm, Release
from tests.chart.releases import DEV, RELEASES, merged
from tests.chart.test_pods import containers

LISTED = set((CHART / "images.txt").read_text().split())


def named(release: Release) -> Iterator[str]:
    for container in containers(release):
        yield container["image"]
    for config in release.of_kind("ConfigMap"):
        if "environment.json" in config["data"]:
            engine = json.loads(config["data"]["environment.json"])["engineImage"]
            yield f"{engine['repository']}@{engine['digest']}"


def without_digest(image: str) -> str:
    return image.partition("@")[0]


def test_the_list_has_each_image_that_any_release_names_and_no_other(helm: Helm) -> None:
    own_registry = {"global": {"imageRegistry": ""}}
    releases = [helm.render(merged(values, own_registry)) for values in RELEASES.values()]
    every = {image for release in releases for image in named(release)}
    tagged = {image for image in every if "@" not in image}
    by_digest = {without_digest(image) for image in every if "@" in image}
    assert tagged < LISTED
    assert {image.rpartition(":")[0] for image in LISTED - tagged} == by_digest
    assert by_digest == {"headrace/engine", "headrace/engine-cuda"}


def test_with_a_registry_of_one_s_own_no_image_comes_from_elsewhere(helm: Helm) -> None:
    registry = "registry.example.internal:5000/mirror"
    release = helm.render(
        merged(DEV, {"global": {"imageRegistry": registry}, "tests": {"existingSecret": "key"}})
    )
    paths = {re.sub(r"^docker\.io/", "", image) for image in LISTED}
    for image in named(release):
        assert image.startswith(f"{registry}/")
        rest = image.removeprefix(f"{registry}/")
        assert rest in paths or f"{without_digest(rest)}:" in {path[: path.rfind(":") + 1] for path in paths}
