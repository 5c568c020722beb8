"""docs/operations/degradation.md names a test for everything that it says."""

from tests.architecture.named_tests import missing, named_in
from tests.architecture.tree import ROOT

TABLE = ROOT / "docs" / "operations" / "degradation.md"

DEPENDENCIES = {"Valkey", "billing's API", "billing's worker", "Postgres", "engine", "disk"}


def rows() -> list[list[str]]:
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_every_dependency_is_there_slow_and_gone() -> None:
    told = {(row[0], row[1]) for row in rows()}
    wanted = {(what, how) for what in DEPENDENCIES for how in ("slow", "gone")}
    wanted = wanted - {("disk", "gone")} | {("disk", "full"), ("Valkey", "emptied"), ("Valkey", "full")}
    assert told == wanted


def test_every_row_is_shown_by_tests_that_exist() -> None:
    for row in rows():
        assert named_in(row[-1]), row
        assert missing(row[-1]) == []
