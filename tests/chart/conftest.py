"""One Helm for all tests of the chart; a render takes some milliseconds and is done once."""

from collections.abc import Iterator

import pytest

from tests.chart.helm import Helm, Release, running_helm
from tests.chart.releases import RELEASES


@pytest.fixture(scope="session")
def helm() -> Iterator[Helm]:
    with running_helm() as helm:
        yield helm


@pytest.fixture(params=RELEASES)
def release(helm: Helm, request: pytest.FixtureRequest) -> Release:
    """Every set of values in turn."""
    return helm.render(RELEASES[request.param])
