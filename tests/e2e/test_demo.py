"""The main job, as a person runs it."""

from decimal import Decimal

import pytest

from headrace_platform.local.status import Condition
from tests.e2e.conftest import DemoRun

pytestmark = [pytest.mark.engine, pytest.mark.timeout(480)]


def test_the_demo_holds_whatever_it_claims(demo: DemoRun) -> None:
    assert demo.exit_status == 0, demo.output


def test_what_the_engine_yielded_is_what_was_billed_and_named(demo: DemoRun) -> None:
    result = demo.result
    assert result.billed_tokens > 0
    assert result.engine_tokens == result.billed_tokens + sum(result.named_differences.values())
    assert result.unreconciled == 0


def test_the_books_add_up_to_zero_and_the_invoices_to_something(demo: DemoRun) -> None:
    assert Decimal(demo.result.ledger_sum) == 0
    assert Decimal(demo.result.invoice_total) > 0


def test_one_outcome_is_sold_and_one_is_not(demo: DemoRun) -> None:
    assert (demo.result.outcomes_accepted, demo.result.outcomes_rejected) == (1, 1)


def test_an_invoice_lies_there_as_a_pdf(demo: DemoRun) -> None:
    printed = {file.stem for file in (demo.stack.state / "invoices").glob("*.pdf")}
    assert len(printed) == len(demo.result.invoices) == 2


def test_the_kept_stack_says_where_it_is(demo: DemoRun) -> None:
    assert demo.endpoints.api_key is not None
    assert demo.endpoints.api_key in demo.output
    assert demo.endpoints.gateway_url in demo.output
    conditions = {program.name: program.condition for program in demo.stack.status().programs}
    assert conditions == dict.fromkeys(conditions, Condition.READY)
