"""A recording through vLLM itself: what the gateway sends it takes, and what it streams counts as the engine does."""

import http.client
import json
import random
import subprocess
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from headrace_contracts.deployments import Deployment, Hearing, Task
from headrace_contracts.engine import RUNNING_COUNTS_COMMENT, EngineEnding
from headrace_gateway.dialects.forms import CONTENT_TYPE, Form, encode_form
from headrace_gateway.dialects.running_counts import read_counts
from headrace_gateway.dialects.transcript_stream import read_transcript
from headrace_gateway.dialects.transcription import TranscriptionRequest, decode_openai
from headrace_platform.catalog.models import GLM_TINY, location
from headrace_platform.local.environments import engine_python
from tests.architecture.tree import ROOT
from tests.platform.control.examples import environment
from tests.platform.serving.test_application import configs
from tests.support import serve_configuration
from tests.support.engine import Engine, running_engine
from tests.support.engine_records import EngineRecords
from tests.support.patience import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.slow_engine, pytest.mark.timeout(400)]

TINY_ASR = ROOT / "tests" / "support" / "tiny_asr.py"
"""Imports what the engine's environment alone has."""
ARGUMENTS = "--load-format dummy --max-model-len 8192 --max-num-batched-tokens 8192"
OUTPUT_TOKENS = 6
TIMEOUT_SECONDS = 120


@pytest.fixture(scope="module")
def hearing_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("asr")
    model = folder / "model"
    subprocess.run(
        [engine_python(), "-P", str(TINY_ASR), location(GLM_TINY), str(model)],
        check=True,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
    )

    def program(billing: EngineRecords) -> Sequence[str]:
        (config,) = configs("small", environment({"billing.recordsUrl": billing.url}))
        config["applications"][0]["args"]["engine_arguments"] = f"--model {model} {ARGUMENTS}"
        file = folder / "config.json"
        file.write_text(json.dumps(config))
        return (serve_configuration.__file__, str(file))

    with running_engine(folder / "engine", program=program) as engine:
        yield engine


def noise(folder: Path, seconds: float, rate: int) -> bytes:
    file = folder / "noise.wav"
    with wave.open(str(file), "wb") as written:
        written.setframerate(rate)
        written.setnchannels(1)
        written.setsampwidth(2)
        written.writeframes(random.Random(0).randbytes(round(seconds * rate) * 2))
    return file.read_bytes()


def request_of(audio: bytes) -> TranscriptionRequest:
    fields = [("model", "glm-asr"), ("language", "en"), ("prompt", "Ada"), ("temperature", "0")]
    return decode_openai(encode_form(Form(fields, memoryview(audio))))


def deployment_of(engine: Engine) -> Deployment:
    return Deployment(
        id="asr",
        model="glm-asr",
        url=engine.url,
        engine_model=engine.model,
        revision="1",
        context_tokens=8192,
        prompt_overhead_tokens=64,
        task=Task.TRANSCRIBE,
        hearing=Hearing(token_milliseconds=80, seconds_max=480),
    )


@pytest.mark.parametrize(("seconds", "rate"), [(1.0, 16_000), (31.5, 44_100), (479.0, 8_000)])
def test_a_recording_counts_as_the_engine_does_and_no_more_than_is_held_for_it(
    hearing_engine: Engine, tmp_path: Path, seconds: float, rate: int
) -> None:
    request, deployment = request_of(noise(tmp_path, seconds, rate)), deployment_of(hearing_engine)
    attempt = hearing_engine.attempt()
    address = urlsplit(hearing_engine.url)
    connection = http.client.HTTPConnection(address.netloc, timeout=TIMEOUT_SECONDS)
    body = request.upstream_body(deployment, output_tokens_max=OUTPUT_TOKENS, org="org_1")
    headers = {"Content-Type": CONTENT_TYPE.decode(), "X-Request-Id": attempt}
    connection.request("POST", "/v1/audio/transcriptions", body, headers)
    with connection.getresponse() as response:
        said = response.read()
    connection.close()
    assert response.status == 200, said

    transcript = read_transcript(said, model="glm-asr")
    wait_until(lambda: hearing_engine.billing.ended(attempt))
    record = hearing_engine.billing.ended(attempt)
    assert record is not None
    assert record.ending is EngineEnding.FINISHED
    assert transcript.usage is not None
    counts = read_counts(transcript.usage)
    assert (counts.prompt_tokens, counts.completion_tokens) == (record.prompt, record.output)
    assert counts.cached_tokens == record.cached
    assert record.output == OUTPUT_TOKENS
    assert seconds * 12.5 - 1 <= record.prompt <= request.prompt_tokens_max(deployment)

    # As an engine that is not ours would have told it.
    bare = b"\n".join(
        line for line in said.split(b"\n") if not line.startswith(RUNNING_COUNTS_COMMENT.encode())
    )
    usage = read_transcript(bare, model="glm-asr").usage
    assert usage is not None
    told = read_counts(usage)
    assert (told.prompt_tokens, told.completion_tokens) == (record.prompt, record.output)
