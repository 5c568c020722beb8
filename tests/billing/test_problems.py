"""One table tells what each refusal is in HTTP, and no refusal is missing from it."""

import importlib
import pkgutil
from collections.abc import Iterator

import headrace_billing
from headrace_billing.errors import BillingError
from headrace_billing.problems import STATUSES


def refusals(base: type[BillingError] = BillingError) -> Iterator[type[BillingError]]:
    for kind in base.__subclasses__():
        yield kind
        yield from refusals(kind)


def test_every_code_has_a_status_and_every_refusal_a_code() -> None:
    for module in pkgutil.walk_packages(headrace_billing.__path__, "headrace_billing."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    missing = {kind.code for kind in refusals()} - STATUSES.keys()
    assert missing == set()


def test_a_refusal_is_never_a_success() -> None:
    assert all(400 <= status < 600 for status in STATUSES.values())
