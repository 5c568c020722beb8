"""The page says what the figures say, and the figures say which targets were missed."""

import json
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from benchmarks.gateway import report
from benchmarks.gateway.chart import bars
from benchmarks.gateway.targets import GROWTH_MIB_MAX, TWO_WORKERS_COST, at_least, at_most, soak_verdicts


@pytest.fixture
def found() -> dict[str, Any]:
    return dict(json.loads(report.RESULTS.read_text()))


def test_the_page_is_what_the_figures_make_of_it(found: dict[str, Any]) -> None:
    assert report.PAGE.read_text() == report.page(found), "python -m benchmarks.gateway.report"


def test_the_picture_is_what_the_figures_make_of_it(found: dict[str, Any]) -> None:
    picture = report.PAGE.with_name(report.PICTURE).read_text()
    assert picture == report.picture(found), "python -m benchmarks.gateway.report"


def test_the_figures_name_no_machine(found: dict[str, Any]) -> None:
    assert set(found["machine"]) == {"processor", "cores", "memory_gib", "system", "python"}


def test_what_was_not_installed_is_told_with_the_command_that_brings_it(found: dict[str, Any]) -> None:
    page = report.page(found | {"absent": {"portkey": "make bench-peers PORTKEY=1"}})
    assert "portkey (`make bench-peers PORTKEY=1`)" in page


def test_a_missed_target_is_told_as_missed(found: dict[str, Any]) -> None:
    verdicts = [at_most("A", "ms", 1.0, 1.5), at_most("B", "ms", 1.0, None), at_least("C", "ms", 80, 81)]
    lines = report.page(found | {"targets": verdicts}).splitlines()
    assert "| A | ≤ 1 |  | 1.5 ms | **not met** |" in lines
    assert "| B | ≤ 1 |  | not measured |  |" in lines
    assert "| C | ≥ 80 |  | 81 ms | met |" in lines


def test_a_shortfall_is_explained_where_there_is_one(found: dict[str, Any]) -> None:
    missed = [at_most(TWO_WORKERS_COST, "", 1.1, 1.2)]
    assert "Two workers" in report.page(found | {"targets": missed})
    kept = report.page(found | {"targets": [at_most(TWO_WORKERS_COST, "", 1.1, 1.0)]})
    assert "falls short" not in kept


def test_a_run_leaves_the_soak_s_figures_as_they_were(tmp_path: Any) -> None:
    path = tmp_path / "figures.json"
    report.keep({"soak": {"minutes": 10}}, path)
    report.keep({"targets": []}, path)
    assert json.loads(path.read_text()) == {"soak": {"minutes": 10}, "targets": []}


def soaked(*, grown_mib: float, minutes: float = 10, left_behind: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "minutes": minutes,
        "rss_first_third_mib": 50.0,
        "rss_last_third_mib": 50.0 + grown_mib,
        "left_behind": list(left_behind),
    }


def test_a_soak_that_grew_or_left_something_behind_misses_its_targets() -> None:
    grown = soaked(grown_mib=GROWTH_MIB_MAX + 0.1, left_behind=["a lease"])
    assert [verdict["met"] for verdict in soak_verdicts(grown)] == [False, False]
    assert [verdict["met"] for verdict in soak_verdicts(soaked(grown_mib=0.1))] == [True, True]


def test_a_soak_shorter_than_the_warming_up_says_nothing_of_growth() -> None:
    assert [verdict["met"] for verdict in soak_verdicts(soaked(grown_mib=5, minutes=4))] == [None, True]


def test_a_chart_s_bars_are_as_long_as_their_values_are_large() -> None:
    root = ET.fromstring(bars("Costs & more", {"ours": 20.0, "a < b": 10.0}, emphasised="ours"))  # noqa: S314 - our own
    widths = {
        bar.get("class"): float(bar.get("width", "0")) for bar in root.iter() if bar.tag.endswith("rect")
    }
    assert widths["ours"] == pytest.approx(2 * widths["bar"], abs=0.2)
