"""docs/reference/promises.md names tests for each of its rules."""

from tests.architecture.named_tests import missing, named_in
from tests.architecture.tree import ROOT

PAGE = ROOT / "docs" / "reference" / "promises.md"


def test_every_promise_is_held_by_tests_that_exist() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    for row in rows:
        assert named_in(row.rpartition(" | ")[2]), row
        assert missing(row) == []


def test_a_test_that_is_not_there_is_missed() -> None:
    assert missing("held by `tests/architecture/test_promises.py::test_nothing_of_that_name`") != []
