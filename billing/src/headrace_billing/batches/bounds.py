"""How large a customer's files and batches may be; an operator may say otherwise."""

from dataclasses import dataclass

FILE_BYTES_MAX = 100 * 2**20
PROJECT_BYTES_MAX = 2 * 2**30
LINES_MAX = 50_000


@dataclass(frozen=True, slots=True)
class BatchBounds:
    file_bytes_max: int = FILE_BYTES_MAX
    project_bytes_max: int = PROJECT_BYTES_MAX
    """Of all that a project stores; answers are stored whatever their size."""
    lines_max: int = LINES_MAX
    """Of one batch."""
