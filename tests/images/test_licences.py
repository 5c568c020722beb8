"""docs/reference/licences.md names every library in our images that asks for more than its notice."""

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

from tests.images.dockerfile import ROOT
from tests.images.locks import pins

PAGE = (ROOT / "docs" / "reference" / "licences.md").read_text()

SERVICES = ("gateway", "billing", "operator")

MORE_THAN_A_NOTICE = re.compile(
    r"GPL|MPL|Mozilla|EPL|CDDL|SSPL|EULA|End User|Proprietary|NVIDIA", re.IGNORECASE
)


@pytest.mark.parametrize("image", SERVICES)
def test_a_service_s_libraries_with_other_licences_are_listed(image: str) -> None:
    assert _others(image, ROOT / ".venv") == _listed(image)


def test_the_engine_s_libraries_with_other_licences_are_listed() -> None:
    environment = ROOT / ".venv-engine"
    if not (environment / ".complete").exists():
        pytest.skip("`make setup` has not made the engine's environment")
    assert _others("engine", environment) == _listed("engine")


def test_wheels_that_bring_libraries_of_others_are_still_installed() -> None:
    _, second = PAGE.split("| package | in | brings |")
    brought = set(re.findall(r"^\| `([\w-]+)` \| engine", second, re.MULTILINE))
    assert brought
    assert brought <= pins("engine").keys()


def _others(image: str, environment: Path) -> set[str]:
    (packages,) = environment.glob("lib/python*/site-packages")
    installed = {_name(each.name): each for each in distributions(path=[str(packages)])}
    locked = pins(image).keys() & installed.keys()
    assert locked, f"nothing of {image}.lock is installed in {environment}"
    return {name for name in locked if MORE_THAN_A_NOTICE.search("\n".join(_licences(installed[name])))}


def _licences(distribution: Distribution) -> Iterator[str]:
    """As its metadata name them; of a whole text in the place of a name the beginning."""
    told = distribution.metadata
    for key in ("License-Expression", "License"):
        for licence in told.get_all(key) or []:
            yield licence[:60]
    yield from (each for each in told.get_all("Classifier") or [] if each.startswith("License ::"))


def _listed(image: str) -> set[str]:
    first, _ = PAGE.split("| package | in | brings |")
    rows = [line.split(" | ") for line in first.splitlines() if line.startswith("| `")]
    return {
        name
        for packages, images, *_ in rows
        if image in images.split(", ")
        for name in re.findall(r"`([\w-]+)`", packages)
    }


def _name(written: str) -> str:
    return re.sub(r"[-_.]+", "-", written).lower()
