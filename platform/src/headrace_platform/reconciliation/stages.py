"""What billing's reconciliation says of each stage, as it answers; fields are only ever added there."""

import msgspec


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """Two numbers that must be one, as decimal strings."""

    unit: str
    left: str
    right: str
    holds: bool


class Culprit(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    reason: str
    status: str
    detail: str


class Day(msgspec.Struct, frozen=True, kw_only=True):
    day: str
    status: str
    as_of: str
    culprits_count: int


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    stage: str
    status: str
    as_of: str | None
    """Of its oldest look that counts; null where there was none yet, or where the stage is not used."""
    newest: str | None
    sides: list[Side]
    unwitnessed_requests: int = 0
    """Those for which there is no engine record to compare with."""
    culprits_count: int
    culprits: list[Culprit]
    days: list[Day]


class Stages(msgspec.Struct, frozen=True, kw_only=True):
    status: str
    at: str
    """Billing's time of the answer."""
    stages: list[Stage]


decode_stages = msgspec.json.Decoder(Stages).decode
