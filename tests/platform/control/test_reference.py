"""The page says what the definition says, and its example is one that works."""

import yaml

from headrace_platform.control import reference
from headrace_platform.control.deployment import KIND, decode
from headrace_platform.control.rules import violations
from headrace_platform.control.status import ConditionType
from tests.architecture.tree import ROOT
from tests.platform.control.examples import environment

PAGE = ROOT / "docs/reference/modeldeployment.md"


def test_the_page_is_what_the_definition_makes_of_it() -> None:
    assert PAGE.read_text() == reference.page(), "python -m headrace_platform.control.reference"


def test_the_page_s_example_breaks_no_rule() -> None:
    assert violations(decode(yaml.safe_load(reference.EXAMPLE)), environment()) == []


def test_every_condition_is_explained() -> None:
    assert set(reference.MEANINGS) == set(ConditionType)


def test_the_page_is_about_the_kind_that_there_is() -> None:
    assert PAGE.read_text().startswith(f"# {KIND}\n")
