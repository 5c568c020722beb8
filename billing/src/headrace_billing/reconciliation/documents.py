"""Reconciliation as the API shows it."""

from typing_extensions import TypedDict


class ReasonDocument(TypedDict):
    code: str
    count: int


class SidesDocument(TypedDict):
    """Tokens."""

    input: int
    output: int


class CountsDocument(TypedDict):
    requests: int
    tokens: int


class BySideDocument(TypedDict):
    engine: SidesDocument
    billed: SidesDocument
    named_differences: dict[str, SidesDocument]


class TotalsDocument(TypedDict):
    requests: int
    engine_tokens: int
    billed_tokens: int
    named_differences: dict[str, int]
    unwitnessed: CountsDocument
    unexplained_tokens: int
    by_side: BySideDocument
    events: CountsDocument
    rollups: CountsDocument
    ledger_nanos: dict[str, str]
    """By currency."""
    invoice_nanos: dict[str, str]


class CheckDocument(TypedDict):
    name: str
    currency: str | None
    left: str
    right: str
    holds: bool


class CulpritDocument(TypedDict):
    id: str
    reason: str
    status: str
    detail: str


class ReportDocument(TypedDict):
    organization: str | None
    start: str
    end: str
    as_of: str
    status: str
    reasons: list[ReasonDocument]
    totals: TotalsDocument
    checks: list[CheckDocument]
    unreconciled: list[CulpritDocument]


class RequestDocument(TypedDict):
    request_id: str
    organization: str
    received_at: str
    disposition: str
    grade: str
    ending: str
    attempts: int
    billed_input: int
    billed_output: int
    engine_input: int
    engine_output: int
    differences: dict[str, SidesDocument]
    status: str
    reason: str | None


class ReconciliationDocument(ReportDocument):
    requests: list[RequestDocument]
    next: str | None


class SideDocument(TypedDict):
    unit: str
    left: str
    right: str
    holds: bool


class DayDocument(TypedDict):
    day: str | None
    status: str
    as_of: str
    culprits_count: int


class StageDocument(TypedDict):
    stage: str
    status: str
    as_of: str | None
    newest: str | None
    sides: list[SideDocument]
    unwitnessed_requests: int
    culprits_count: int
    culprits: list[CulpritDocument]
    days: list[DayDocument]


class StagesDocument(TypedDict):
    """`status` is the worst of the stages'."""

    status: str
    at: str
    stages: list[StageDocument]


class SettlementDocument(TypedDict):
    kind: str
    id: str
    reason: str
    declared_by: str
    confirmed_by: str
    declared_at: str


class LossDocument(TypedDict):
    attempt: str
    reason: str
    declared_by: str
    confirmed_by: str
    declared_at: str
    engine_records: int
