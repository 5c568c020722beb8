"""The gateways' table of deployments: written by `headrace up` or the operator, read by a gateway."""

from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

STOP_STRINGS_MAX = 16
"""At which one request may stop: an engine looks for each of them after every token. vLLM's own bound is 4, which is
OpenAI's; Anthropic's clients know none."""


Count = Annotated[int, Meta(ge=0)]

Seconds = Annotated[int, Meta(ge=0, le=253_402_300_799)]
"""Since the Unix epoch, up to the last that a date can be told of."""


class Task(StrEnum):
    """What a model is for: each kind has endpoints of its own."""

    GENERATE = "generate"
    EMBED = "embed"
    TRANSCRIBE = "transcribe"


class Thinking(msgspec.Struct, frozen=True, kw_only=True):
    """What a request may decide about a model's thinking, and by which of its chat template's keywords."""

    by_default: bool = True
    switch: str | None = None
    """Set to false for no thinking; null where it can't be turned off."""
    clear_switch: str | None = None
    """Set to false to keep the thinking of earlier turns in the prompt; null where the template has no such choice."""
    efforts: list[str] = []
    """Those that the template tells apart, least first."""


class Hearing(msgspec.Struct, frozen=True, kw_only=True):
    """What audio comes to in a prompt."""

    token_milliseconds: int
    """Of audio, for which one token stands."""
    seconds_max: int
    """The longest audio that the engine takes: it refuses what is longer, and reads what is not in one piece."""


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One place that serves one model. Its engine speaks OpenAI's protocol at `url`.

    What can't be true is no deployment, so that a table with a slip in it is refused as a whole, and not each request.
    """

    id: str
    model: str
    """The name that clients ask for and prices go by."""
    url: str
    """Base address without `/v1`, e.g. `http://127.0.0.1:8000`."""
    engine_model: str
    """The name under which the engine serves it."""
    revision: str
    """Clients pin it by naming `<model>@<revision>`, or an alias in the same way."""
    aliases: list[str] = []
    context_tokens: Annotated[int, Meta(ge=1)]
    prompt_overhead_tokens: Count
    """Upper bound of what the chat template adds to a prompt, for the first hold."""
    released_at: int = 0
    """Seconds since the Unix epoch, for `created` in the models list."""
    owned_by: str = "zai-org"
    tenant: str | None = None
    """The organisation whose keys alone may name, see and use it; null where every key may that its record lets."""
    task: Task = Task.GENERATE
    thinking: Thinking | None = None
    """Null for a model that does not think."""
    image_tokens_max: Count = 0
    """Upper bound of what one image counts in a prompt; 0 where the model reads text alone."""
    hearing: Hearing | None = None
    """Null for a model that does not hear."""
    deprecated_at: Seconds | None = None
    """Seconds since the Unix epoch from which on clients are asked to use another model or revision."""
    sunset_at: Seconds | None = None
    """The same, when it is expected to be gone. Clients are told; it is the operator who takes it away."""
    slots: Count | None = None
    """Requests at once that it is sent, by all gateways together; the others wait. Null where nothing bounds them."""
    wait_seconds: Annotated[float, Meta(ge=0)] | None = None
    """How long a request may wait for one of them; null leaves it to the gateway."""
    weight: Count = 1
    """Its share of the requests for which others would do as well; 0 serves only when none of those can."""
    projects: list[str] = []
    """Projects whose requests come here and not to others that would do; empty is everybody's."""
    overflow: bool = False
    """Of an organisation's own: whether what finds it full or failing may go to those of all."""
    salts_cache: bool = False
    """Whether its engine takes `cache_salt`, which keeps each organisation's prompts to itself."""
    witnessed: bool = True
    """Whether its engine tells billing what it yielded, as Headrace's does. Of one that can't, there is nothing to
    hold against what is billed."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError(f"`url` {self.url!r} is no http or https address")

    @property
    def names(self) -> tuple[str, ...]:
        """All that a request may call it by."""
        plain = dict.fromkeys((self.model, *self.aliases))
        return (*plain, *(f"{name}@{self.revision}" for name in plain))


class DeploymentTable(msgspec.Struct, frozen=True, kw_only=True):
    deployments: list[Deployment]


decode_table = msgspec.json.Decoder(DeploymentTable).decode
encode_table = msgspec.json.Encoder().encode
