"""What a gateway has to know of a model to take requests for it, whoever writes its table: from the record alone."""

from headrace_contracts.deployments import Hearing, Task, Thinking
from headrace_platform.catalog.record import Kind, ModelRecord


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
