"""docs/operations/overload.md says what the code does: codes, defaults and bounds."""

import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import yaml

from headrace_contracts.deployments import Deployment
from headrace_gateway.http.problems import STATUSES
from headrace_gateway.limits import slots
from headrace_gateway.routing import breaker, line
from headrace_gateway.routing.choice import in_order
from headrace_gateway.routing.deployments import DeploymentsFile
from headrace_gateway.settings import GatewaySettings
from headrace_platform.control import crd
from headrace_platform.control.route import STEERING, table
from tests.gateway.account import DEPLOYMENT
from tests.gateway.http.stack import write_table
from tests.platform.control.examples import deployment, environment

PAGE = (Path(__file__).parents[3] / "docs/operations/overload.md").read_text()

# Each field of a line, and where a ModelDeployment has it; empty where it is written nowhere.
FIELDS: dict[str, str] = dict(
    re.findall(
        r"^\| `([a-z_]+)` \| [^|]+ \| (?:follows from )?(?:`([A-Za-z.]+)`)?",
        PAGE.split("## Deployments")[1].split("\n## ")[0],
        flags=re.MULTILINE,
    )
)


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
    assert set(FIELDS) <= set(Deployment.__struct_fields__)


def test_where_a_field_is_written_is_a_field_of_a_model_deployment() -> None:
    for path in filter(None, FIELDS.values()):
        at = crd.schema()["properties"]["spec"]
        for name in path.split("."):
            assert name in at["properties"], path
            at = at["properties"][name]
    assert set(STEERING) <= set(FIELDS)


def test_its_deployment_is_read_into_the_table() -> None:
    said = yaml.safe_load(block("deployment"))["spec"]
    [line] = table(deployment("small", said), environment()).deployments
    assert (line.tenant, line.projects, line.overflow) == ("org_acme", ["proj_acme_search"], True)
    assert line.sunset_at is not None


def test_its_second_line_for_a_local_engine_is_sent_one_session_of_twenty(tmp_path: Path) -> None:
    path = tmp_path / "deployments.json"
    write_table(path, DEPLOYMENT)
    tables = DeploymentsFile(path)
    env = {"TABLE": str(path), "PATH": os.defpath}
    subprocess.run(["sh", "-euc", block("local")], env=env, check=True, timeout=60)
    tables.look()
    served = Counter(
        in_order(tables.current.every, org="o", project="p", affinity=lambda: b"%d" % number, now=0)[0].id  # noqa: B023 - asked at once
        for number in range(2000)
    )
    assert served.keys() == {DEPLOYMENT.id, "canary"}
    assert 50 <= served["canary"] <= 150


def block(mark: str) -> str:
    """The fenced block below a comment of that name."""
    [found] = re.findall(rf"<!-- {mark} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def test_the_bounds_are_those_of_the_code() -> None:
    assert f"every {line.ROUND_SECONDS * 1000:.0f} ms" in PAGE
    assert f"{line.ROUND_SECONDS_PER_GATEWAY * 1000:.0f} ms longer" in PAGE
    assert f"up to {line.ROUND_SECONDS_MAX * 1000:.0f} ms" in PAGE
    assert slots.STANDS_MS == 500
    assert f"after {breaker.FAILURES_IN_A_ROW} failures in a row" in PAGE
    assert f"latest {breaker.OUTCOMES} requests" in PAGE
    saved = breaker.RetryBudget.SAVED_MAX
    assert (
        f"({saved:.0f} may be saved up, of which {saved / 2:.0f} are for tries at another deployment" in PAGE
    )
    assert (breaker.PAUSE_SECONDS_MIN, breaker.PAUSE_SECONDS_MAX) == (1, 60)
    assert breaker.RetryBudget.SHARE == 1 / 5
