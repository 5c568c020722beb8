"""The reference page says what the code does: every path, every error, in every dialect."""

from pathlib import Path

from headrace_gateway.http import zai_codes
from headrace_gateway.http.problems import STATUSES
from headrace_gateway.http.shapes import ANTHROPIC_TYPES
from tests.gateway.http.stack import Stack

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "api.md"


def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose first column has this heading."""
    _, _, rest = PAGE.read_text().partition(f"| {heading} |")
    table = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table]


def test_every_error_has_its_line() -> None:
    written = {code: (status, kind, zai_status, zai) for code, status, kind, zai_status, zai in rows("code")}
    assert written == {
        code: (str(status), ANTHROPIC_TYPES[status], *(str(each) for each in zai_codes.CODES[code]))
        for code, (status, _) in STATUSES.items()
    }


def test_every_code_of_a_limit_is_named() -> None:
    _, _, said = PAGE.read_text().partition("Z.ai tells some of them apart further")
    for code in {*zai_codes.LIMITS.values(), zai_codes.TRAFFIC}:
        assert f"`{code}`" in said


async def test_every_path_has_its_line(stack: Stack) -> None:
    written = {path: method for path, method, *_ in rows("path")}
    assert written == {path: method for path, (method, _) in stack.gateway._routes.items()}
