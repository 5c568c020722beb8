"""Where a page of a list ended, as a word that only the same query understands."""

import base64
import hashlib
from collections.abc import Sequence

from headrace_billing.usage.query import CursorInvalid

TAG_BYTES = 6


def cursor_of(last: str, query: Sequence[str]) -> str:
    return base64.urlsafe_b64encode(_tag(query) + last.encode()).decode().rstrip("=")


def after_of(cursor: str | None, query: Sequence[str]) -> str:
    """The last id of the page before; empty for the first page. Raises `CursorInvalid`."""
    if cursor is None:
        return ""
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        tag, last = raw[:TAG_BYTES], raw[TAG_BYTES:].decode()
    except ValueError as error:
        raise CursorInvalid from error
    if tag != _tag(query) or not last.isprintable():
        raise CursorInvalid
    return last


def _tag(query: Sequence[str]) -> bytes:
    return hashlib.sha256("\x00".join(query).encode()).digest()[:TAG_BYTES]
