"""One answer per `Idempotency-Key`: stored in the transaction that did the work, so a retry can't do it twice.

Keys are kept for good: they guard money, and a ledger has no day after which a double payment is fine.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.errors import IdempotencyConflict


async def recall(session: AsyncSession, *, scope: str, key: str, request: object) -> Any:
    """The answer given before to the same request, of the route's own type; null claims the key for this transaction.

    `scope` names the route and whose key it is; `request` is the decoded body. A second request with the key waits
    here for the first to commit or roll back. Raises `IdempotencyConflict` for another body.
    """
    digest = hashlib.sha256(json.dumps(request, sort_keys=True, default=str).encode()).digest()
    claimed = await session.execute(CLAIM, {"scope": scope, "key": key, "request": digest})
    if claimed.first() is not None:
        return None
    row = (await session.execute(SELECT, {"scope": scope, "key": key})).one()
    if bytes(row.request_sha256) != digest:
        raise IdempotencyConflict(key)
    answer = row.answer
    assert answer is not None, f"{scope}: {key} was claimed by a transaction that remembered no answer"
    return answer


async def remember(session: AsyncSession, *, scope: str, key: str, answer: Mapping[str, Any]) -> None:
    """Keeps the answer for whoever asks again; before the transaction that `recall` began commits."""
    await session.execute(UPDATE, {"scope": scope, "key": key, "answer": json.dumps(answer, default=str)})


CLAIM = text("""
    INSERT INTO idempotency_keys (scope, key, request_sha256) VALUES (:scope, :key, :request)
    ON CONFLICT (scope, key) DO NOTHING RETURNING key
""")

SELECT = text("SELECT request_sha256, answer FROM idempotency_keys WHERE scope = :scope AND key = :key")

UPDATE = text("""
    UPDATE idempotency_keys SET answer = CAST(:answer AS jsonb) WHERE scope = :scope AND key = :key
""")
