"""A scanner that knows AWS's traps finds nothing that nobody has given a reason for."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.terraform.workbench import REPOSITORY, SOURCE

CHECKOV = REPOSITORY / ".venv-checkov" / "bin" / "checkov"

# It evaluates every module twice; seconds on an idle machine.
SCAN_SECONDS_MAX = 160

SKIP = re.compile(r"#checkov:skip=(\w+):(.*)")


def scan(folder: Path) -> dict[str, int]:
    """Numbers of checks by result. Nothing is fetched."""
    command = (CHECKOV, "-d", folder, "--framework", "terraform", "--skip-download", "--quiet", "-o", "json")
    finished = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=SCAN_SECONDS_MAX, check=False
    )
    report = json.loads(finished.stdout)
    found: dict[str, int] = report.get("summary", report)
    for failure in report.get("results", {}).get("failed_checks", []):
        print(failure["check_id"], failure["check_name"], failure["resource"])  # noqa: T201 - read when it fails
    return found


@pytest.fixture
def checkov() -> None:
    if not CHECKOV.exists():
        pytest.skip("checkov is not installed: `make terraform-check` does that")


@pytest.mark.usefixtures("checkov")
def test_the_scanner_finds_nothing_that_has_no_reason() -> None:
    summary = scan(SOURCE)

    assert summary["failed"] == 0
    assert summary["parsing_errors"] == 0
    assert summary["passed"] > 100, "it looked at next to nothing"


@pytest.mark.usefixtures("checkov")
def test_the_scanner_would_find_an_open_bucket(tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text('resource "aws_s3_bucket" "open" {\n  bucket = "open"\n}\n')

    assert scan(tmp_path)["failed"] > 0


def test_every_exception_says_why() -> None:
    skips = [match for file in SOURCE.rglob("*.tf") for match in SKIP.finditer(file.read_text())]

    assert skips
    for check, reason in (match.groups() for match in skips):
        assert len(reason.split()) >= 5, f"{check}: {reason!r} is no reason"
