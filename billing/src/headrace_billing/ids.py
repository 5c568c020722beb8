"""Ids of what billing creates: a prefix that tells the kind, then a time-ordered random part.

They sort by creation, so that a page of a list can begin after the last id of the one before.
"""

import secrets
from contextvars import ContextVar
from datetime import datetime

MADE: ContextVar[list[str] | None] = ContextVar("MADE", default=None)
"""Where somebody keeps account of what the work under way creates."""


def new_id(prefix: str, at: datetime) -> str:
    """`prefix_` + 12 hex digits of milliseconds since the epoch + 80 random bits."""
    milliseconds = int(at.timestamp() * 1000)
    made = f"{prefix}_{milliseconds:012x}{secrets.token_hex(10)}"
    if (account := MADE.get()) is not None:
        account.append(made)
    return made
