"""The guide names all that a customer or an operator meets."""

import re
from pathlib import Path

from headrace_billing.batches import line, validating
from headrace_billing.batches.batch import BatchStatus
from headrace_billing.batches.line import ENDPOINTS, NotAnswered
from headrace_billing.settings import WorkerSettings

GUIDE = (Path(__file__).parents[3] / "docs" / "guides" / "batches.md").read_text()


def mistakes() -> set[str]:
    """The codes of whatever can be wrong with a file."""
    sources = "".join(Path(str(module.__file__)).read_text() for module in (line, validating))
    return set(re.findall(r'(?:LineInvalid|_error)\(\s*"([a-z_]+)"', sources))


def test_every_status_code_and_setting_is_in_the_guide() -> None:
    settings = {
        f"HEADRACE_BILLING_{name.upper()}"
        for name in WorkerSettings.model_fields
        if name.startswith("batch_")
    }
    names = {*mistakes(), *NotAnswered, *BatchStatus, *ENDPOINTS, *settings}
    assert len(mistakes()) > 10
    assert {name for name in names if f"`{name}`" not in GUIDE} == set()
