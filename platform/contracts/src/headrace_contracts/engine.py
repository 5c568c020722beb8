"""What an engine replica says that it yielded: the other side of the reconciliation."""

from enum import StrEnum

import msgspec

CACHED_TOKENS_HEADER = "x-headrace-cached-tokens"
"""Of an engine's reply: prompt tokens that were found in the prefix cache.

The running usage of a vLLM stream counts the prompt whole and tells only at the end how much of it was cached,
so a caller who hangs up would pay the full price for it.
"""

RUNNING_COUNTS_COMMENT = ": headrace-usage "
"""Begins a line above an event of an engine's stream: the attempt's counts so far, as OpenAI's usage object.

Dialects other than OpenAI's chat tell usage only at both ends of a stream, so a caller who hangs up in between
would leave no exact count. The gateway takes the line out.
"""


class EngineEnding(StrEnum):
    FINISHED = "finished"  # the engine reached a stop or the length asked for
    ABORTED = "aborted"  # the caller went away or the replica shut down
    FAILED = "failed"
    STARTED = "started"  # not ended yet, or the replica died before it could say more


class EngineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens that the engine yielded for one upstream attempt.

    Identity: (`replica`, `attempt`). A record `started` is written when the engine takes the request and
    replaced by the one that tells its end. `attempt` is the gateway's `<request id>.<n>`, or the engine's
    own id for a request that no gateway sent (`probe` is then true).
    Times are microseconds since the Unix epoch, UTC.
    """

    replica: str
    attempt: str
    deployment: str
    model: str
    ending: EngineEnding
    prompt: int
    cached: int
    """Prompt tokens that were found in the prefix cache; inside `prompt`."""
    output: int
    """All generated tokens that left the engine, reasoning included."""
    started_at_us: int
    finished_at_us: int | None = None
    probe: bool = False


class EngineRecordBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /internal/v1/engine-records`."""

    records: list[EngineRecord]


encode_records = msgspec.json.Encoder().encode
decode_record = msgspec.json.Decoder(EngineRecord).decode
decode_records = msgspec.json.Decoder(EngineRecordBatch).decode
