"""Ids of what billing creates: a prefix that tells the kind, then a time-ordered random part.

They sort by creation, so that a page of a list can begin after the last id of the one before.
"""

import secrets
from datetime import datetime


def new_id(prefix: str, at: datetime) -> str:
    """`prefix_` + 12 hex digits of milliseconds since the epoch + 80 random bits."""
    milliseconds = int(at.timestamp() * 1000)
    return f"{prefix}_{milliseconds:012x}{secrets.token_hex(10)}"
