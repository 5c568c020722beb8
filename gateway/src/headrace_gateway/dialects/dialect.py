"""What the transport needs of any dialect: a request, the reading of its stream, and how either can be wrong.

What must stay true: usage leaves a dialect in the engine's own shape, in which `prompt_tokens` includes the
cached ones, whatever the client sees; so metering never has to know which dialect it counts.
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol

import msgspec

from headrace_contracts.deployments import Deployment, Task
from headrace_contracts.usage import Dialect
from headrace_gateway.dialects.media import Media

JSON = "application/json"


class Cut(Enum):
    """Why an answer ends before its engine ended it."""

    LENGTH = auto()
    """Money or a plan ended: as if `max_tokens` had been reached."""
    WITHHELD = auto()
    """A guardrail refused what would have come."""


class BadChunk(Exception):
    """An event is not what it should look like, or says that the engine failed."""


class NoCompletion(Exception):
    """The reply is not what a completion looks like."""


class Chunk(msgspec.Struct, frozen=True):
    """One event of the engine, read but not yet handed on."""

    client_bytes: bytes
    """What the client gets of it, maybe nothing."""
    usage: bytes | None
    """Counts of the whole request up to and with this event, as JSON."""
    output_tokens: int
    begun: Sequence[int] = ()
    """Parts of the answer (choices, blocks of content) that the client knows of from this event on."""
    finished: Sequence[int] = ()
    """Those of which nothing more will come."""
    last: bool = False
    """The stream's last event: it waits for the settlement."""


class StreamReader(Protocol):
    """Reads the events of one stream in order."""

    end: bytes
    """The last event of a stream that is cut short."""

    def take(self, block: bytes) -> Chunk | None:
        """One event as it stood on the wire; null where it says nothing. Raises `BadChunk`."""

    def handed_on(self, chunk: Chunk) -> None:
        """To be called for each chunk that the client was given."""

    def cut_short(self, usage: bytes | None, cut: Cut = Cut.LENGTH) -> bytes:
        """Events that end the stream in its dialect's own way, but for the last one."""


class InferenceRequest(Protocol):
    """A request that can be held, sent to an engine and answered."""

    @property
    def dialect(self) -> Dialect: ...
    @property
    def model(self) -> str: ...
    @property
    def streamed(self) -> bool: ...
    @property
    def output_tokens_max(self) -> int | None: ...
    @property
    def choices(self) -> int: ...
    @property
    def media(self) -> Media: ...
    @property
    def reply_type(self) -> str:
        """The media type of an answer in one piece."""

    @property
    def task(self) -> Task:
        """Which kind of model it is for."""

    @property
    def once(self) -> str | None:
        """The client's own id of the request, where its dialect wants one that was not used before."""

    @property
    def end_user(self) -> str | None:
        """The client's own user, as it names them."""

    @property
    def beginning(self) -> bytes | None:
        """What the conversation is known by, from its first request to its last."""

    def check(self, deployment: Deployment) -> None:
        """Raises `NotOffered` for what the deployment's model can't do."""

    def prompt_tokens_max(self, deployment: Deployment) -> int:
        """Upper bound of what the prompt may count."""

    def upstream_body(self, deployment: Deployment, *, output_tokens_max: int | None, org: str) -> bytes:
        """The request as the engine gets it."""

    def reader(self, deployment: Deployment, *, cached_tokens: int | None) -> StreamReader:
        """For a streamed reply. `cached_tokens`: what the engine's headers said, where they did."""

    def read_reply(self, body: bytes, deployment: Deployment) -> tuple[bytes, bytes | None]:
        """A whole reply as the client gets it, and the engine's usage. Raises `NoCompletion`."""

    def withheld(self, body: bytes) -> bytes:
        """What the client gets in the place of such a reply when none of it may be given."""
