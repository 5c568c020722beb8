import re
import tomllib

from headrace_platform.catalog.files import records
from headrace_platform.catalog.models import HERE, MODELS
from headrace_platform.catalog.reference import reference
from tests.architecture.tree import ROOT

PAGE = ROOT / "docs" / "reference" / "models.md"


def test_the_page_says_what_the_records_say() -> None:
    assert PAGE.read_text() == reference(), (
        "write it anew: python -m headrace_platform.catalog.reference > docs/reference/models.md"
    )


def test_every_model_is_on_the_page() -> None:
    page = reference()

    for record in MODELS:
        assert f"\n| {record.id}" in page


def test_the_fine_tune_of_the_page_can_be_copied() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    tuned = tomllib.loads(example)
    shipped = {path.stem: tomllib.loads(path.read_text()) for path in (HERE / "records").glob("*.toml")}

    read = {record.id: record for record in records({**shipped, tuned["id"]: tuned})}

    assert read[tuned["id"]].base == "glm-4.5-air"
    assert read[tuned["id"]].speculation is None
    assert read[tuned["id"]].shape == read["glm-4.5-air"].shape
