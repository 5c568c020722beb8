"""What a gateway is told that can't be: it says so by the setting's name, and does not start."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from headrace_gateway.settings import GatewaySettings


@pytest.mark.parametrize("kept", ["responses", "answers"])
def test_no_organisation_may_keep_more_than_all(tmp_path: Path, kept: str) -> None:
    told = {
        "valkey_url": "redis://localhost",
        "billing_url": "http://localhost",
        "ingest_token": "token",
        "deployments": tmp_path,
        "state_dir": tmp_path,
        "name": "gateway",
        f"{kept}_bytes_max": 2**21,
    }
    GatewaySettings.model_validate({**told, f"{kept}_org_bytes_max": 2**21})
    with pytest.raises(ValidationError, match=f"{kept}_org_bytes_max: must be no more than {kept}_bytes_max"):
        GatewaySettings.model_validate({**told, f"{kept}_org_bytes_max": 2**21 + 1})
