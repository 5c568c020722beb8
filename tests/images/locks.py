"""What the locks of the images install."""

import re

from tests.images.dockerfile import ROOT


def pins(lock: str) -> dict[str, str]:
    """Versions by name."""
    text = (ROOT / "requirements" / f"{lock}.lock").read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ +\n]+)", text, re.MULTILINE))
