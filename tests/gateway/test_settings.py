"""What a gateway is told that can't be: it says so by the setting's name, and does not start."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from headrace_gateway.settings import GatewaySettings


@pytest.fixture
def told(tmp_path: Path) -> dict[str, Any]:
    """The least that a gateway must be told."""
    return {
        "valkey_url": "redis://localhost",
        "billing_url": "http://localhost",
        "ingest_token": "token",
        "deployments": tmp_path,
        "state_dir": tmp_path,
        "name": "gateway",
    }


@pytest.mark.parametrize("name", ["body_bytes_max", "audio_body_bytes_max"])
def test_a_gateway_that_has_no_room_for_its_largest_body_does_not_start(
    told: dict[str, Any], name: str
) -> None:
    GatewaySettings.model_validate({**told, "bodies_bytes_max": 100 * 2**20, name: 50 * 2**20})
    with pytest.raises(ValidationError, match="bodies_bytes_max: must be no less than 2 times"):
        GatewaySettings.model_validate({**told, "bodies_bytes_max": 100 * 2**20, name: 51 * 2**20})


@pytest.mark.parametrize("kept", ["responses", "answers"])
def test_no_organisation_may_keep_more_than_all(told: dict[str, Any], kept: str) -> None:
    told |= {f"{kept}_bytes_max": 2**21}
    GatewaySettings.model_validate({**told, f"{kept}_org_bytes_max": 2**21})
    with pytest.raises(ValidationError, match=f"{kept}_org_bytes_max: must be no more than {kept}_bytes_max"):
        GatewaySettings.model_validate({**told, f"{kept}_org_bytes_max": 2**21 + 1})
