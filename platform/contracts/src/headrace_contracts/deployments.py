"""The gateways' table of deployments: written by `headrace up` or the operator, read by a gateway."""

import msgspec


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One place that serves one model. Its engine speaks OpenAI's protocol at `url`."""

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
    context_tokens: int
    prompt_overhead_tokens: int
    """Upper bound of what the chat template adds to a prompt, for the first hold."""
    released_at: int = 0
    """Seconds since the Unix epoch, for `created` in the models list."""
    owned_by: str = "zai-org"
    tenant: str | None = None
    """The organisation whose keys alone may name, see and use it; null where every key may that its record lets."""
    deprecated_at: int | None = None
    """Seconds since the Unix epoch from which on clients are asked to use another model or revision."""
    sunset_at: int | None = None
    """The same, when it is expected to be gone. Clients are told; it is the operator who takes it away."""

    @property
    def names(self) -> tuple[str, ...]:
        """All that a request may call it by."""
        plain = dict.fromkeys((self.model, *self.aliases))
        return (*plain, *(f"{name}@{self.revision}" for name in plain))


class DeploymentTable(msgspec.Struct, frozen=True, kw_only=True):
    deployments: list[Deployment]


decode_table = msgspec.json.Decoder(DeploymentTable).decode
encode_table = msgspec.json.Encoder().encode
