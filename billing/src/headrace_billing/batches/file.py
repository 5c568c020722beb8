"""A customer's file: the requests of a batch, or their answers."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from headrace_billing.errors import BillingError

PIECE_BYTES = 2**20
"""What is held of a file at a time."""

KEPT_TIME = timedelta(days=30)

UPLOAD_TIME = timedelta(hours=1)
"""Longer than anybody uploads; what is not whole by then was given up."""

Purpose = Literal["batch", "batch_output"]


class FileTooLarge(BillingError):
    """More than a file may have."""

    code = "file_too_large"

    def __init__(self, bytes_max: int) -> None:
        super().__init__(f"A file has at most {bytes_max} bytes. Make several batches of it.")


class StorageFull(BillingError):
    """More than a project may store."""

    code = "storage_full"

    def __init__(self, bytes_max: int) -> None:
        super().__init__(
            f"A project stores at most {bytes_max} bytes. Delete files, or wait until some expire."
        )


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
