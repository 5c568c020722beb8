"""A batch: many requests in one file, answered within a day, whenever there is room, for the price of batches."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from headrace_billing.errors import BillingError

WINDOW = "24h"
WINDOW_TIME = timedelta(hours=24)

ERRORS_MAX = 100
"""That are told of one file."""
OPEN_MAX = 50
"""Batches of one project that have not ended."""


class BatchStatus(StrEnum):
    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    COMPLETED = "completed"


OPEN = (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS, BatchStatus.FINALIZING, BatchStatus.CANCELLING)
CANCELLABLE = (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS)
ENDED = (BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED)


class TooManyBatches(BillingError):
    """As many batches of the project are under way as there may be."""

    code = "too_many_batches"

    def __init__(self) -> None:
        super().__init__(f"{OPEN_MAX} batches of this project are under way. Wait for one, or cancel one.")


class BatchEnded(BillingError):
    """What has ended can't be cancelled."""

    code = "batch_ended"

    def __init__(self, batch: str, status: BatchStatus) -> None:
        super().__init__(f"The batch {batch!r} can't be cancelled any more: it is {status}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    id: str
    project: str
    key: str
    """Whose limits and price its requests have."""
    endpoint: str
    input_file: str
    metadata: Mapping[str, str]
    status: BatchStatus
    created_at: datetime
    expires_at: datetime
    errors: list[dict[str, Any]] = field(default_factory=list)
    output_file: str | None = None
    error_file: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    in_progress_at: datetime | None = None
    finalizing_at: datetime | None = None
    cancelling_at: datetime | None = None
    ended_at: datetime | None = None


def document(batch: Batch) -> dict[str, Any]:
    """As OpenAI's clients read it."""
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
        "input_file_id": batch.input_file,
        "completion_window": WINDOW,
        "status": batch.status,
        "output_file_id": batch.output_file,
        "error_file_id": batch.error_file,
        "created_at": _seconds(batch.created_at),
        "in_progress_at": _seconds(batch.in_progress_at),
        "expires_at": _seconds(batch.expires_at),
        "finalizing_at": _seconds(batch.finalizing_at),
        "cancelling_at": _seconds(batch.cancelling_at),
        **{f"{status}_at": _seconds(batch.ended_at) if batch.status is status else None for status in ENDED},
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "metadata": batch.metadata or None,
    }


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())
