"""What the engine's process is told by its environment, all of it under `HEADRACE_ENGINE_`.

The secret has no default: a process without it must not start.
"""

from pathlib import Path
from typing import Any, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SECRET_CHARACTERS_MIN = 16


class ReplicaSettings(BaseSettings):
    """What a replica must not be told by Ray, or can't be: the secret, and where its machine has room."""

    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_ENGINE_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    @classmethod
    def from_environment(cls) -> Self:
        """Raises pydantic's `ValidationError`, which names what is missing or wrong, without values."""
        given_otherwise: dict[str, Any] = {}
        return cls(**given_otherwise)

    # Spool, Ray's session and logs, vLLM's caches. Must outlive the process for the spool's sake.
    state_dir: Path
    # What billing takes the records by.
    ingest_token: SecretStr = Field(min_length=SECRET_CHARACTERS_MIN)

    @property
    def spool_dir(self) -> Path:
        return self.state_dir / "records"


class EngineSettings(ReplicaSettings):
    """What the process is told that runs Ray on this machine; on Kubernetes a `ModelDeployment` says it."""

    # The name or an alias of a record in the catalogue.
    model: str = "glm-tiny"
    # What the gateway's table calls this deployment; the model's id where nobody says otherwise.
    deployment: str | None = None

    # Where Serve's proxy listens. Loopback, so that nothing is open by accident: the engine knows no keys.
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    # Billing's `…/internal/v1/engine-records`.
    records_url: str = Field(pattern=r"^https?://")

    min_replicas: int = Field(default=1, ge=1, le=1000)
    max_replicas: int = Field(default=1, ge=1, le=1000)
    # Requests at once for which one replica is enough; twice that asks for a second one.
    target_ongoing: float = Field(default=8, gt=0)
    # Requests that a replica takes at once: what its engine runs together and a short queue behind, so that
    # the engine's own scheduler always has the next one ready.
    max_ongoing: int = Field(default=32, ge=1)
    # Requests that wait in front of full replicas, or for a replacement of a dead one; others get 503 at once. No more
    # than one replica runs: the gateways let requests wait in fair turns, and Serve knows no turns.
    max_queued: int = Field(default=32, ge=1)
    upscale_delay_seconds: float = Field(default=10, ge=0)
    # Starting again costs a minute, so a lull is waited out.
    downscale_delay_seconds: float = Field(default=300, ge=0)
    # Streams that run when a replica is told to stop may go on for so long.
    drain_seconds: float = Field(default=15, gt=0)

    # What Ray is told that this machine has; a replica asks for its profile's share of it, for placement and no
    # limit. Two are declared even on one core, else Serve's own actors would wait for room.
    ray_cpus: int = Field(default=2, ge=1)
    # Ray's shared memory carries only Serve's small messages; this is the least that Ray accepts.
    object_store_bytes: int = Field(default=80 * 2**20, ge=75 * 2**20)

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.max_replicas < self.min_replicas:
            msg = "max_replicas is below min_replicas"
            raise ValueError(msg)
        return self
