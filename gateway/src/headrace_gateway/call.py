"""The seam between transport (http, dialects, routing) and metering (keys, limits, metering).

Transport decodes a `Call` and asks `Meter.admit`; what it gets is a running `Lease`, which it must settle
exactly once, however the request ends.
"""

import asyncio
from collections.abc import Awaitable, Callable, Container, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from headrace_contracts.access import KeyScope
from headrace_contracts.deployments import Deployment
from headrace_contracts.networks import Address
from headrace_contracts.usage import Dialect, Ending, TokenCounts
from headrace_gateway.limits.state import LimitState
from headrace_gateway.metrics.requests import Requests


class Credentials(msgspec.Struct, frozen=True):
    """Who a client says it is."""

    key: str
    """The hash key of its secret's record (`keys.directory.key_of`): secrets go no further than transport."""
    address: Callable[[], Address | None]
    """Where it speaks from, worked out only for a key that must not be used from everywhere; null if unknown."""
    batched: bool = False
    """Whether billing sends it, as a line of a batch whose owner was looked at when it was made."""


class Caller(Protocol):
    """Whose key a request came with. Tenancy comes from its record, never from what else the client says."""

    @property
    def org(self) -> str: ...
    @property
    def project_id(self) -> str: ...

    def may_name(self, deployment: Deployment) -> bool:
        """Whether no list of the key's, its project's or its organisation's leaves the model out."""

    @property
    def rank(self) -> int:
        """Its class where requests wait: 0 before 1."""

    @property
    def weight(self) -> int:
        """Its organisation's."""

    @property
    def fallback_models(self) -> Sequence[str]:
        """Models that may answer when the one asked for can't."""


class Idempotency(msgspec.Struct, frozen=True):
    """By what a repeated request is known for one."""

    key: str
    """SHA-256 of the header, in hexadecimal: of one length, whatever the client thought of."""
    request: str
    """The same of path and body."""


class KeptAnswer(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """How the first request with an idempotency key ended, for whoever repeats it."""

    id: str
    ending: Ending
    tokens: TokenCounts
    revision: str
    content_type: str = ""
    body: bytes | None = None
    """Null for one that was cut short, or is too long to be kept."""


class AlreadyAnswered(Exception):
    """The call repeats one that was served before, so it is not served again."""

    def __init__(self, answer: KeptAnswer) -> None:
        super().__init__(answer.id)
        self.answer = answer


class DeploymentFull(Exception):
    """Nothing refuses the call, but all slots of its deployment are taken, or others wait for them."""


class Call(msgspec.Struct, frozen=True):
    """What admission has to know of one inference request."""

    credentials: Credentials
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
    once: str | None = None
    """The client's own id of the request, which no other request of its project may have used lately."""
    session: str | None = None
    task: str | None = None
    task_attempt: str | None = None
    end_user: str | None = None
    """Whom of its own users the client names; it leaves the gateway hashed alone."""
    idempotency: Idempotency | None = None
    trace: str | None = None
    """The trace that it belongs to, where that did not begin with it."""
    has_turn: bool = False
    """Whether it waited for its deployment and may take the next slot there."""
    instead: bool = False
    """Whether the deployment serves another model than the one requested."""
    again: bool = False
    """Whether it was admitted before and nothing came of that, so that it counts as a request already."""


class Watch(Protocol):
    """Something that a key's end ends."""

    @property
    def revoked(self) -> asyncio.Event:
        """Set when the key was revoked or has expired, or a lease taken away otherwise: end it at once."""


class Lease(Watch, Protocol):
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
    def limit_states(self) -> Sequence[LimitState]:
        """How its limits stood when it was admitted, itself included."""

    @property
    def tokens(self) -> TokenCounts:
        """What it was settled with; none until then."""

    @property
    def first_token_us(self) -> int | None:
        """Since its admission; null until a token was handed to the client."""

    def attempt(self) -> str:
        """The engine's request id for the next upstream attempt; counts it."""

    def relayed(self, usage: bytes, *, output_tokens: int, first: bool = False) -> None:
        """Notes the engine's newest usage object (JSON) *after* what it counts was handed to the client.

        Must be cheap: it is called for each chunk. It stores to the in-flight table and nowhere else.
        `first` marks the first token's moment.
        """

    async def extend(self, *, output_tokens: int) -> bool:
        """Asks for a slice that covers at least `output_tokens`; False when money or the task's guard ends."""

    def settle(
        self, ending: Ending, *, usage: bytes | None = None, answer: tuple[str, bytes] | None = None
    ) -> Awaitable[None]:
        """Ends the request: journal and settle script. `usage` replaces what `relayed` noted last.

        `answer`, a content type and a body, is kept for who repeats a call that has an idempotency key.

        It is on its way when this returns, whatever becomes of the caller. What it returns is done when the
        journal is durable and the script has answered, or after 250 ms with the rest retried behind. Raises
        nothing that depends on the outside.
        """


class Meter(Protocol):
    @property
    def requests(self) -> Requests:
        """What requests come to, for the metrics."""

    async def authenticate(self, credentials: Credentials, scope: KeyScope, *, anew: bool = False) -> Caller:
        """Raises `Unauthenticated`, `IpNotAllowed` and their like.

        What this lets pass may have changed since its records were read: `admit` compares them, and whoever
        answers without admitting asks for them `anew`.
        """

    def watch(self, credentials: Credentials) -> AbstractAsyncContextManager[Watch]:
        """For what goes on for long without being admitted."""

    async def priced_models(self, credentials: Credentials) -> Container[str]:
        """Those with a price where the key's project buys."""

    async def admit(self, call: Call) -> Lease:
        """Raises a `GatewayError` when the call may not run, `DeploymentFull` or `AlreadyAnswered`; nothing is held then."""
