"""The seam between transport (http, dialects, routing) and metering (keys, limits, metering).

Transport decodes a `Call` and asks `Meter.admit`; what it gets is a running `Lease`, which it must settle
exactly once, however the request ends.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

from headrace_contracts.deployments import Deployment
from headrace_contracts.usage import Dialect, Ending


@dataclass(frozen=True, slots=True)
class Call:
    """What admission has to know of one inference request."""

    secret: str
    """The bearer token as the client sent it."""
    dialect: Dialect
    model_requested: str
    deployment: Deployment
    prompt_tokens_max: int
    """Upper bound: a token a UTF-8 byte of the prompt plus the template's constant."""
    output_tokens_max: int | None
    """What the client asked for; null where it left it open."""
    streamed: bool
    choices: int = 1
    """`n`: every choice may generate `output_tokens_max`."""
    session: str | None = None
    task: str | None = None
    task_attempt: str | None = None


class Lease(Protocol):
    """One admitted request, from its hold to its settlement."""

    @property
    def id(self) -> str:
        """The request id (UUIDv7)."""

    @property
    def output_tokens_max(self) -> int | None:
        """What to ask of the engine: the client's own bound, clamped to what money can pay if unstreamed."""

    @property
    def output_tokens_granted(self) -> int:
        """Output tokens that may be relayed under the present hold."""

    @property
    def revoked(self) -> asyncio.Event:
        """Set when the lease was taken away (reaped, key revoked): end the stream at once, then settle."""

    def attempt(self) -> str:
        """The engine's request id for the next upstream attempt; counts it."""

    def relayed(self, usage: bytes, *, output_tokens: int, first: bool = False) -> None:
        """Notes the engine's newest usage object (JSON) *after* what it counts was handed to the client.

        Must be cheap: it is called for each chunk. It stores to the in-flight table and nowhere else.
        `first` marks the first token's moment.
        """

    async def extend(self, *, output_tokens: int) -> bool:
        """Asks for a slice that covers at least `output_tokens`; False when money or the task's guard ends."""

    def settle(self, ending: Ending, *, usage: bytes | None = None) -> Awaitable[None]:
        """Ends the request: journal and settle script. `usage` replaces what `relayed` noted last.

        It is on its way when this returns, whatever becomes of the caller. What it returns is done when the
        journal is durable and the script has answered, or after 250 ms with the rest retried behind. Raises
        nothing that depends on the outside.
        """


class Meter(Protocol):
    async def models(self, secret: str) -> list[str] | None:
        """Authenticates; the models that the key may name, null meaning all. Raises `Unauthenticated`…"""

    async def admit(self, call: Call) -> Lease:
        """Raises a `GatewayError` when the call may not run; nothing is held then."""
