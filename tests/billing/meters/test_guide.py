"""The guide for outside meters does what it says: its commands run one after the other, on a billing that runs."""

import asyncio
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from redis.asyncio import Redis

from headrace_billing.meters.backfill import LATE_WINDOW, REMEMBERED
from headrace_billing.meters.reading import ItemCode
from headrace_contracts import channels
from headrace_contracts.ingest import EventOutcome
from tests.billing.seller import ADMIN_TOKEN, Seller
from tests.billing.test_processes import environment, running, until

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "outside-meters.md"
TEXT = GUIDE.read_text()


def blocks() -> dict[str, str]:
    return dict(re.findall(r"<!-- (\w+) -->\n```sh\n(.*?)```", TEXT, re.DOTALL))


def run_all(folder: Path, env: dict[str, str]) -> dict[str, list[Any]]:
    """What each block printed: JSON documents, one after the other."""
    script = "set -eu\n" + "".join(f"{{ {code}\n}} > {name}.out\n" for name, code in blocks().items())
    ended = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return {name: documents((folder / f"{name}.out").read_text()) for name in blocks()}


def documents(printed: str) -> list[Any]:
    found, decoder = [], json.JSONDecoder()
    printed = printed.strip()
    while printed:
        document, end = decoder.raw_decode(printed)
        found.append(document)
        printed = printed[end:].strip()
    return found


async def test_its_commands_report_usage_once_and_show_it(
    database_url: str, valkey_url: str, valkey: Redis, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    port = unused_port()
    url = f"http://127.0.0.1:{port}"
    await valkey.set(channels.EPOCH, "1")
    env = environment(database_url, valkey_url, port)
    with running("headrace_billing", "api", env=env):
        async with httpx2.AsyncClient(base_url=url) as http:

            async def answers() -> bool:
                try:
                    return (await http.get("/readyz")).status_code == 200
                except httpx2.TransportError:
                    return False

            await until(answers)
            seller = Seller(http)
            await seller.publish_prices()
            customer = await seller.customer()
        given = {"BILLING_URL": url, "ADMIN_TOKEN": ADMIN_TOKEN, "PROJECT": customer.project}
        seen = await asyncio.to_thread(run_all, tmp_path, {"PATH": env["PATH"], **given})
    assert [seen[name][0]["results"][0]["outcome"] for name in ("report", "again")] == [
        "accepted",
        "duplicate",
    ]
    (source,) = seen["gaps"][0]["sources"]
    assert (source["received_to"], source["missing"]) == ("1", [])
    assert seen["backfill"][0]["approved_by"] == "Grace Hopper"
    usage, stages = seen["look"]
    assert usage["items"][0]["tokens"]["total"] == 15_400
    assert stages["status"] == "green"


def test_it_names_every_code_and_outcome_and_the_times_that_hold() -> None:
    for name in [*ItemCode, *EventOutcome, "refused"]:
        assert f"| `{name}` |" in TEXT, name
    assert f"more than {LATE_WINDOW.days} days" in TEXT
    assert f"more than {REMEMBERED.days} days" in TEXT
