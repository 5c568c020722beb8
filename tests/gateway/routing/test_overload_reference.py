"""docs/operations/overload.md says what the code does: codes, defaults and bounds."""

import re
from pathlib import Path

from headrace_contracts.deployments import Deployment
from headrace_gateway.http.problems import STATUSES
from headrace_gateway.limits import slots
from headrace_gateway.routing import breaker, line
from headrace_gateway.settings import GatewaySettings

PAGE = (Path(__file__).parents[3] / "docs/operations/overload.md").read_text()


def test_every_code_has_the_status_that_is_named() -> None:
    named = re.findall(r"`([a-z_]+)`, (\d{3})", PAGE)
    assert len(named) >= 6
    assert {code: int(status) for code, status in named} == {code: STATUSES[code][0] for code, _ in named}


def test_the_gateway_s_settings_have_the_defaults_that_are_named() -> None:
    rows = re.findall(r"`HEADRACE_GATEWAY_([A-Z_]+)`[^|]*\| (\d+) \|", PAGE)
    defaults = {name: GatewaySettings.model_fields[name.lower()].default for name, _ in rows}
    assert {name: int(value) for name, value in rows} == defaults
    assert len(rows) == 3


def test_every_field_of_a_deployment_is_one() -> None:
    section = PAGE.split("## Deployments")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z_]+)` \|", section, flags=re.MULTILINE)) <= set(
        Deployment.__struct_fields__
    )


def test_the_bounds_are_those_of_the_code() -> None:
    assert f"every {line.ROUND_SECONDS * 1000:.0f} ms" in PAGE
    assert f"{line.ROUND_SECONDS_PER_GATEWAY * 1000:.0f} ms longer" in PAGE
    assert f"up to {line.ROUND_SECONDS_MAX * 1000:.0f} ms" in PAGE
    assert slots.STANDS_MS == 500
    assert f"after {breaker.FAILURES_IN_A_ROW} failures in a row" in PAGE
    assert f"latest {breaker.OUTCOMES} requests" in PAGE
    assert f"({breaker.RetryBudget.SAVED_MAX:.0f} may be saved up)" in PAGE
    assert (breaker.PAUSE_SECONDS_MIN, breaker.PAUSE_SECONDS_MAX) == (1, 60)
    assert breaker.RetryBudget.SHARE == 1 / 5
