"""What guides say in fenced blocks below a comment with a name, for tests that do it."""

import re
from pathlib import Path

from tests.chart.helm import ROOT

PARTNER = ROOT / "docs" / "guides" / "partner.md"
ENTERPRISE = ROOT / "docs" / "guides" / "enterprise.md"
CANARY = ROOT / "docs" / "operations" / "canary.md"


def block(guide: Path, mark: str) -> str:
    """The fenced block below a comment of that name."""
    (found,) = re.findall(rf"<!-- {mark} -->\n```\w+\n(.*?)```", guide.read_text(), re.DOTALL)
    return str(found)
