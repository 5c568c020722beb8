"""The way to a gateway: every request of a batch goes through one, as its customer's own requests do.

What must stay true: what is sent twice carries the same Idempotency-Key, so the gateway runs it once.
"""

import time
from urllib.parse import quote

import httpx2

from headrace_billing.batches.line_store import Due
from headrace_billing.batches.reply import Reply, Silence, on_one_line
from headrace_contracts.batch_tokens import batch_token

TOKEN_SECONDS = 300
"""A token is looked at when a request arrives, so it need not last as long as that runs."""

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 420.0
"""Longer than a gateway lets a request wait for its turn and for the first byte of its answer, which is whole at once;
and well within the time for which it keeps answers, as one that takes longer is asked for again."""
MODEL_SECONDS = 10.0


class Gateway:
    def __init__(self, url: str, secret: str, *, connections_max: int) -> None:
        """`secret`: the ingest token, which gateways have too."""
        self._secret = secret
        self._client = httpx2.AsyncClient(
            base_url=url,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=connections_max + 1),
        )

    async def send(self, due: Due) -> Reply | Silence:
        headers = {
            "authorization": self._bearer(due.key_sha256),
            "content-type": "application/json",
            "idempotency-key": f"{due.batch}-{due.number}",
            # So that usage by session tells what a batch used.
            "x-session-id": due.batch,
        }
        try:
            response = await self._client.post(due.endpoint, content=due.body, headers=headers)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout):
            return Silence.UNREACHED
        except httpx2.HTTPError:
            return Silence.BROKEN
        body = on_one_line(response.content)
        if body is None:
            # Something between us and the gateway that does not speak for it.
            return Silence.BROKEN
        return Reply(
            response.status_code,
            body,
            request=response.headers.get("x-request-id"),
            retry_after_seconds=_seconds(response.headers.get("retry-after")),
        )

    async def knows(self, model: str, *, key_sha256: str) -> bool:
        """False only where the gateway says so: when it is away, each line will be told in its turn."""
        try:
            response = await self._client.get(
                f"/v1/models/{quote(model)}",
                headers={"authorization": self._bearer(key_sha256)},
                timeout=MODEL_SECONDS,
            )
        except httpx2.HTTPError:
            return True
        return response.status_code != httpx2.codes.NOT_FOUND

    async def close(self) -> None:
        await self._client.aclose()

    def _bearer(self, key_sha256: str) -> str:
        # By the real time, which gateways go by, whatever a test clock says.
        expires_at = int(time.time()) + TOKEN_SECONDS
        return f"Bearer {batch_token(key_sha256, self._secret, expires_at=expires_at)}"


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdecimal() else None
