"""What a gateway has to know of a model to take requests for it, whoever writes its table: from the record alone."""

from typing import TypedDict

from headrace_contracts.deployments import Hearing, Task, Thinking
from headrace_platform.catalog.record import Kind, ModelRecord


class Offered(TypedDict):
    """Fields of a `Deployment` that follow from its model, wherever it runs."""

    prompt_overhead_tokens: int
    released_at: int
    owned_by: str
    task: Task
    thinking: Thinking | None
    image_tokens_max: int
    hearing: Hearing | None


def offered(record: ModelRecord) -> Offered:
    return Offered(
        prompt_overhead_tokens=record.prompt_overhead_tokens,
        released_at=record.released_at or 0,
        owned_by=record.owned_by,
        task=task_offered(record),
        thinking=thinking_offered(record),
        image_tokens_max=image_tokens_max(record),
        hearing=hearing_offered(record),
    )


def thinking_offered(record: ModelRecord) -> Thinking | None:
    """What lets a request decide about a model's thinking."""
    thinking = record.thinking
    if thinking is None:
        return None
    return Thinking(
        by_default=thinking.by_default,
        switch=thinking.switch,
        clear_switch=thinking.clear_switch,
        efforts=list(thinking.efforts),
    )


def image_tokens_max(record: ModelRecord) -> int:
    """0 where the model reads no images."""
    vision = record.shape.vision if record.shape is not None else None
    return vision.image_tokens_max if vision is not None else 0


def hearing_offered(record: ModelRecord) -> Hearing | None:
    """Null where the model takes no audio."""
    hearing = record.shape.hearing if record.shape is not None else None
    if hearing is None:
        return None
    return Hearing(token_milliseconds=hearing.token_milliseconds, seconds_max=hearing.seconds_max)


def task_offered(record: ModelRecord) -> Task:
    return Task.TRANSCRIBE if record.kind is Kind.TRANSCRIPTION else Task.GENERATE
