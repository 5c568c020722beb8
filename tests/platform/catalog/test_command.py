"""`headrace models` as people and scripts meet it."""

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from typer.testing import CliRunner, Result

from headrace_platform.catalog.figures import NOT_KNOWN
from headrace_platform.catalog.models import MODELS
from headrace_platform.catalog.profiles import PROFILES
from headrace_platform.cli import app

LIST_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["models"],
    "properties": {
        "models": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": [
                    *("id", "kind", "owned_by", "licence", "parameters", "parameters_active"),
                    *("context_tokens", "attention", "formats", "vllm_minimum", "thinking"),
                    *("unserved", "gpus"),
                ],
                "properties": {
                    "id": {"type": "string"},
                    "kind": {"enum": ["text", "vision", "transcription", "image", "speech"]},
                    "owned_by": {"type": "string"},
                    "licence": {"type": "string"},
                    "parameters": {"type": "integer"},
                    "parameters_active": {"type": ["integer", "null"]},
                    "context_tokens": {"type": ["integer", "null"]},
                    "attention": {"type": ["string", "null"]},
                    "formats": {"type": "array", "items": {"enum": ["bf16", "fp8", "nvfp4", "mxfp4"]}},
                    "vllm_minimum": {"type": ["string", "null"]},
                    "thinking": {"enum": ["always", "optional", "on request", None]},
                    "unserved": {"type": ["string", "null"]},
                    "gpus": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
                },
            },
        }
    },
}


def headrace(*arguments: str, columns: int = 80) -> Result:
    fixed = {"COLUMNS": str(columns), "NO_COLOR": "1", "TERM": "dumb"}
    return CliRunner().invoke(app, ["models", *arguments], env=fixed)


def told(*arguments: str) -> dict[str, Any]:
    seen = headrace(*arguments, "--json")
    assert seen.exit_code == 0, seen.output
    read = json.loads(seen.stdout)
    assert isinstance(read, dict)
    return read


def line_of(output: str, beginning: str) -> str:
    return next(line for line in output.splitlines() if line.startswith(beginning))


def test_the_list_has_every_model_with_its_gpus_in_eighty_columns() -> None:
    seen = headrace()

    assert seen.exit_code == 0
    assert max(map(len, seen.stdout.splitlines())) <= 80
    for record in MODELS:
        assert line_of(seen.stdout, f"{record.id} ")
    assert line_of(seen.stdout, "glm-5.3 ").split() == [
        *("glm-5.3", "743B", "/", "39B", "1M", "MLA,", "sparse", "0.28.0", "always")
    ]
    assert "fp8 bf16 nvfp4 · MIT · 16 h100, 8 h200, 8 b200, 8 mi300x" in seen.stdout
    assert "not served: it needs vllm-omni" in seen.stdout


def test_scripts_can_rely_on_the_list_s_fields() -> None:
    listed = told()

    jsonschema.validate(listed, LIST_SCHEMA)
    assert [one["id"] for one in listed["models"]] == [record.id for record in MODELS]
    newest = next(one for one in listed["models"] if one["id"] == "glm-5.3")
    assert newest["gpus"]["h200"] == 8
    assert "a100" not in newest["gpus"]


@pytest.mark.parametrize("model", [record.id for record in MODELS])
def test_a_page_keeps_to_eighty_columns_but_for_what_is_to_be_copied(model: str) -> None:
    seen = headrace(model)

    assert seen.exit_code == 0
    assert seen.stdout.startswith(f"{model}  ")
    page, *_ = seen.stdout.split("The engine on")
    assert max(map(len, page.splitlines())) <= 80


def test_a_page_tells_what_runs_where_what_does_not_and_why() -> None:
    page = headrace("glm-5.3").stdout

    assert line_of(page, "h200 ").split() == ["h200", "fp8", "8", "94.5", "24.4", "400,384", "54"]
    assert "16 on 2 nodes" in line_of(page, "h100 ")
    assert "not on a100, rtx-pro-6000, gb10: vLLM's sparse attention does not run there" in page
    assert "not on mi325x: whether vLLM's sparse attention runs there is not known" in page


def test_a_page_ends_with_a_command_that_can_be_copied() -> None:
    page = headrace("glm-5.3-flash").stdout

    assert "The engine on h200" in page
    assert (
        "  VLLM_ENGINE_READY_TIMEOUT_S=3600 \\\n  vllm serve \\\n    --model zai-org/GLM-5.3-Flash \\" in page
    )
    assert """--speculative-config '{"method":"mtp","num_speculative_tokens":5}' \\""" in page
    assert page.rstrip().endswith("--no-enable-flashinfer-autotune")


def test_the_engine_s_arguments_are_shown_for_the_profile_that_was_asked_for() -> None:
    page = headrace("glm-5.3", "--on", "b200").stdout

    assert "The engine on b200:" in page
    assert "--kv-cache-dtype fp8_e4m3" in page
    assert "h200 " not in page


def test_the_model_that_runs_here_is_shown_as_it_runs_here() -> None:
    page = headrace("glm-tiny").stdout

    assert "The engine on local-cpu" in page
    assert "--kv-cache-memory-bytes 67108864" in page


def test_what_is_not_known_is_said_to_be_so() -> None:
    page = headrace("intellect-3").stdout

    for heading in ("thinking", "end tokens", "vLLM", "released"):
        assert line_of(page, heading).split(maxsplit=heading.count(" ") + 1)[-1].strip() == NOT_KNOWN
    assert "fine-tune of  glm-4.5-air" in page


def test_a_model_that_is_not_served_has_a_page_and_no_engine() -> None:
    page = headrace("glm-image")

    assert page.exit_code == 0
    assert "Not served: it needs vllm-omni, which Headrace does not run." in page.stdout
    assert "vllm serve" not in page.stdout


def test_a_page_for_programs_holds_the_record_and_each_profile() -> None:
    page = told("glm-5.3")

    assert page["record"]["tool_parser"] == "glm47"
    assert page["record"]["price"]["output"] == "4.40"
    assert page["record"]["shape"]["attention"]["indexer"]["layers"] == 21
    by_profile = {one["profile"]: one for one in page["profiles"]}
    assert list(by_profile) == list(PROFILES)
    assert by_profile["h200"]["gpus"] == 8
    assert by_profile["h200"]["engine_arguments"][:2] == ["--model", "zai-org/GLM-5.3"]
    assert by_profile["a100"]["fits"] is False
    assert by_profile["a100"]["reason"] == "vLLM's sparse attention does not run there"


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_an_unknown_name_is_answered_with_near_ones_and_the_next_step(form: tuple[str, ...]) -> None:
    seen = headrace("glm-5.4", *form)

    assert seen.exit_code == 1
    assert seen.stdout == ""
    assert "No model is named glm-5.4." in seen.stderr
    assert "Did you mean glm-5.3" in seen.stderr
    assert "`headrace models` lists them all." in seen.stderr


def test_a_name_like_no_other_is_not_answered_with_guesses() -> None:
    seen = headrace("qwerty")

    assert seen.exit_code == 1
    assert "Did you mean" not in seen.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(("glm-5.3", "--on", "h900"), "h900"), (("--on", "h200"), "goes with a model's ID")],
)
def test_a_profile_that_makes_no_sense_is_not_understood(arguments: tuple[str, ...], told: str) -> None:
    seen = headrace(*arguments, columns=200)

    assert seen.exit_code == 2
    assert told in seen.stderr
