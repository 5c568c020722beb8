"""The commands of a guide, run as its reader would, one after the other."""

import asyncio
import json
import re
import shutil
from pathlib import Path

import pytest

from tests.billing.seller import ADMIN_TOKEN

GUIDES = Path(__file__).resolve().parents[3] / "docs" / "guides"
COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECONDS_MAX = 120

NEEDS_A_SHELL = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "curl", "jq"))), reason="the guide's commands need bash, curl and jq"
)


async def run(guide: str, address: str, folder: Path, **variables: str) -> list[object]:
    """What jq printed."""
    script = "set -euo pipefail\n" + "\n".join(COMMANDS.findall((GUIDES / guide).read_text()))
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "BILLING": address,
            "ADMIN_TOKEN": ADMIN_TOKEN,
            **variables,
        },
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, complaints = await asyncio.wait_for(process.communicate(), SECONDS_MAX)
    assert process.returncode == 0, (printed.decode()[-2000:], complaints.decode()[-2000:])
    return _documents(printed.decode())


def _documents(printed: str) -> list[object]:
    decoder, found, place = json.JSONDecoder(), [], 0
    while place < len(printed):
        if printed[place].isspace():
            place += 1
            continue
        document, place = decoder.raw_decode(printed, place)
        found.append(document)
    return found
