"""A customer's file: the requests of a batch, or their answers."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from headrace_billing.errors import BillingError

FILE_BYTES_MAX = 100 * 2**20
PROJECT_BYTES_MAX = 2 * 2**30
PIECE_BYTES = 2**20

KEPT_TIME = timedelta(days=30)

Purpose = Literal["batch", "batch_output"]


class FileTooLarge(BillingError):
    """More than a file may have."""

    code = "file_too_large"

    def __init__(self) -> None:
        super().__init__(f"A file has at most {FILE_BYTES_MAX} bytes. Make several batches of it.")


class StorageFull(BillingError):
    """More than a project may store."""

    code = "storage_full"

    def __init__(self) -> None:
        super().__init__(f"A project stores at most {PROJECT_BYTES_MAX} bytes. Delete files, or wait until some expire.")


@dataclass(frozen=True, slots=True)
class File:
    id: str
    project: str
    purpose: Purpose
    filename: str
    bytes: int
    created_at: datetime
    expires_at: datetime


def document(file: File) -> dict[str, Any]:
    """As OpenAI's clients read it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at.timestamp()),
        "expires_at": int(file.expires_at.timestamp()),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }
