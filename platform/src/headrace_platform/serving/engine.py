"""vLLM, started from the catalogue's record, with vLLM's own server app in front: no protocol code of ours.

What is ours is the account of what the engine yields, kept where it is handed to the server app.
"""

import asyncio
from argparse import Namespace
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from types import SimpleNamespace
from typing import Any

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.outputs import PoolingRequestOutput, RequestOutput
from vllm.pooling_params import PoolingParams
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.metrics.ray_wrappers import RayPrometheusStatLogger

from headrace_contracts.engine import EngineEnding
from headrace_platform.serving import attempts
from headrace_platform.serving.attempt_scope import AttemptScope
from headrace_platform.serving.attempts import Part, Recorder

TASKS = ("generate", "embed", "transcription")
"""What gateways ask for, of all that vLLM could make of a model."""

# How the engine says that it gave a choice up itself, rather than that the model ended it.
ENDINGS = {"abort": EngineEnding.ABORTED, "error": EngineEnding.FAILED}


class RecordedEngine(AsyncLLM):  # type: ignore[misc]
    """The engine's client, which notes what leaves it."""

    recorder: Recorder

    async def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **more: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        cumulative = sampling_params.output_kind != RequestOutputKind.DELTA
        with self._part(request_id, prompt) as part:
            # Closed in any case: what is left to the garbage collector goes on generating meanwhile.
            async with aclosing(super().generate(prompt, sampling_params, request_id, **more)) as outputs:
                async for output in outputs:
                    _read(part, output)
                    for choice in output.outputs:
                        part.yielded(choice.index, len(choice.token_ids), cumulative=cumulative)
                        part.told = ENDINGS.get(choice.finish_reason, part.told)
                    yield output

    async def encode(
        self, prompt: Any, pooling_params: PoolingParams, request_id: str, **more: Any
    ) -> AsyncGenerator[PoolingRequestOutput[Any], None]:
        """What is made of a prompt has no tokens: it is read, and that is all."""
        with self._part(request_id, prompt) as part:
            async with aclosing(super().encode(prompt, pooling_params, request_id, **more)) as outputs:
                async for output in outputs:
                    _read(part, output)
                    yield output

    @contextmanager
    def _part(self, request_id: str, prompt: Any) -> Iterator[Part]:
        """Of the request that the running task works for."""
        of_request = attempts.current.get()
        attempt = of_request or self.recorder.attempt(None)
        task = asyncio.current_task()
        assert task is not None
        part = attempt.part(request_id, prompt_tokens=_length(prompt), stop=task.cancel)
        if of_request is None:
            # The server app's own doing: this one part is all there is.
            attempt.close()
        try:
            yield part
        except (asyncio.CancelledError, GeneratorExit):
            part.told = EngineEnding.ABORTED
            raise
        except Exception:
            part.told = EngineEnding.FAILED
            raise
        finally:
            part.end(part.told)


def parse(arguments: list[str]) -> Namespace:
    """`vllm serve`'s own reading of its arguments."""
    parsed: Namespace = make_arg_parser(FlexibleArgumentParser()).parse_args(arguments)
    validate_parsed_serve_args(parsed)
    return parsed


def start_engine(arguments: Namespace, recorder: Recorder, *, ray_metrics: bool) -> RecordedEngine:
    """Returns when the engine's process has loaded the model; to be called in the loop that will serve.

    With `ray_metrics` its metrics are among Ray's own of the machine: a request to `/metrics` would be answered by
    any one of the replicas.
    """
    engine: RecordedEngine = RecordedEngine.from_engine_args(
        AsyncEngineArgs.from_cli_args(arguments),
        stat_loggers=[RayPrometheusStatLogger] if ray_metrics else None,
    )
    engine.recorder = recorder
    return engine


async def server_app(engine: RecordedEngine, arguments: Namespace) -> AttemptScope:
    tasks = tuple(task for task in await engine.get_supported_tasks() if task in TASKS)
    app = build_app(arguments, tasks, engine.model_config)
    await init_app_state(engine, app.state, arguments, tasks)
    # vLLM sets a flag on its HTTP server when the engine is dead; ours is Serve, and the replica watches itself.
    app.state.server = SimpleNamespace(should_exit=False)
    return AttemptScope(app, engine.recorder)


def _read(part: Part, output: RequestOutput | PoolingRequestOutput[Any]) -> None:
    part.read(prompt=len(output.prompt_token_ids or ()), cached=output.num_cached_tokens or 0)


def _length(prompt: Any) -> int:
    ids = prompt.get("prompt_token_ids") if isinstance(prompt, dict) else None
    return len(ids) if ids is not None else 0
