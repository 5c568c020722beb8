"""docs/reference/limits.md says what the code does: kinds, headers, codes, bounds, and how refusals look."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace_contracts.access import KeyScope, LimitKind, WindowShape, WindowUnit
from headrace_gateway.errors import BudgetExhausted, LimitReached
from headrace_gateway.http.problems import STATUSES
from headrace_gateway.http.shapes import ANTHROPIC, OPENAI
from headrace_gateway.limits import idempotency
from headrace_gateway.limits.headers import ANTHROPIC_NAMES, OPENAI_NAMES

PAGE = (Path(__file__).parents[3] / "docs/reference/limits.md").read_text()

ELSEWHERE = {
    # What is wrong with a request, an engine or a connection is no limit.
    *("not_offered", "duplicate_request_id", "response_not_found", "item_not_found"),
    "previous_response_not_found",
    *(
        "invalid_request",
        "context_length_exceeded",
        "body_too_large",
        "body_too_slow",
        "content_encoding_unknown",
    ),
    *("content_refused", "guardrail_failed", "batches_unavailable"),
    *("path_unknown", "method_not_allowed", "internal_error", "shutting_down", "deadline_reached", "revoked"),
    *("upstream_failed", "upstream_busy", "upstream_timed_out", "upstream_unavailable"),
}


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(text: str) -> list[str]:
    return re.findall(r"^\| `([a-z_]+)` \|", text, flags=re.MULTILINE)


def test_every_kind_of_limit_and_window_is_there_and_no_other() -> None:
    kinds = section("Kinds of limit")
    assert first_cells(kinds)[1:] == [kind.value for kind in LimitKind]
    for word in (*WindowShape, *WindowUnit):
        assert f"`{word}`" in kinds


def test_every_header_is_there_and_no_other() -> None:
    named = set(re.findall(r"`((?:x|anthropic)-ratelimit-[a-z-]+)`", PAGE))
    sent = {name for names in (*OPENAI_NAMES.values(), *ANTHROPIC_NAMES.values()) for name in names}
    assert named == sent


def test_every_refusal_is_there_with_its_status() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| (\d+) \|", section("Refusals"), flags=re.MULTILINE)
    listed = {code: int(status) for code, status in rows}
    assert listed == {code: status for code, (status, _) in STATUSES.items() if code not in ELSEWHERE}


def test_every_scope_is_there() -> None:
    assert {f"`{scope}`" for scope in KeyScope} <= set(re.findall("`[a-z:]+`", section("What a key may do")))


def test_the_bounds_of_what_is_kept_are_those_of_the_code() -> None:
    text = section("Repeating a request")
    assert idempotency.KEPT_SECONDS == 3600
    assert "for one hour" in text
    assert f"over {idempotency.ANSWER_BYTES_MAX // 1024} KiB" in text
    bounds = idempotency.ANSWER_BOUNDS
    assert f"exceeds {bounds.org_bytes_max // 2**20} MiB an hour" in text
    assert f"or {bounds.all_bytes_max // 2**20} MiB in all" in text


EXAMPLES: list[dict[str, Any]] = [
    msgspec.json.decode(text) for text in re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
]


@pytest.mark.parametrize(
    ("example", "said"),
    [
        (
            EXAMPLES[0],
            OPENAI.body(
                LimitReached(
                    limit="requests_per_minute",
                    scope="key key_1",
                    used=60,
                    ceiling=60,
                    weight=1,
                    retry_after_seconds=1.0,
                    resets_in_seconds=60.0,
                )
            ),
        ),
        (
            EXAMPLES[1],
            ANTHROPIC.body(
                BudgetExhausted(
                    limit="spend_day",
                    scope="project prj_1",
                    used=4_999_000,
                    ceiling=5_000_000,
                    weight=20_000,
                    retry_after_seconds=21_600.0,
                    resets_in_seconds=21_600.0,
                ),
                "01a21c01-0eba-7cca-ac91-c6fef3885bea",
            ),
        ),
    ],
)
def test_a_refusal_looks_as_it_is_shown(example: dict[str, Any], said: bytes) -> None:
    assert msgspec.json.decode(said) == example
