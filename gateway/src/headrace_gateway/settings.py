"""What a gateway can be told: environment variables `HEADRACE_GATEWAY_<NAME>`, each with its unit and reason."""

import json
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from headrace_contracts.signing_keys import SIGNING_SECRET_BYTES_MIN, is_signing_secret
from headrace_gateway.guardrails.guards import PlugIn
from headrace_gateway.http.large_bodies import SHARES
from headrace_gateway.limits.idempotency import ANSWER_BOUNDS
from headrace_gateway.metering.settings import check_journal


class GatewaySettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="HEADRACE_GATEWAY_", frozen=True, hide_input_in_errors=True)

    @classmethod
    def from_environment(cls) -> Self:
        given_otherwise: dict[str, Any] = {}
        return cls(**given_otherwise)

    # Where it listens. Loopback, so that nothing is open by accident; an image says 0.0.0.0.
    host: IPv4Address | IPv6Address = IPv4Address("127.0.0.1")
    port: int = Field(default=8080, ge=1, le=65535)
    # Networks of the load balancers before it, as CIDRs with commas between them: only what comes from there may say
    # in X-Forwarded-For for whom. None by default, as anybody else could say so too.
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    # More processes share the port by the kernel. One is right where replicas do the scaling.
    workers: int = Field(default=1, ge=1, le=64)

    # Where Prometheus scrapes it: another port than the public one, open to the cluster's own. None where not set.
    metrics_host: IPv4Address | IPv6Address = IPv4Address("127.0.0.1")
    metrics_port: int | None = Field(default=None, ge=1, le=65535)

    # Whom it talks to.
    valkey_url: SecretStr
    billing_url: str
    ingest_token: SecretStr
    # What billing makes keys with that sign tokens, at least 32 bytes as hex; without it none is taken.
    token_signing_secret: SecretStr | None = None
    # A JSON `DeploymentTable`, or a folder of them (`*.json`, a mounted ConfigMap); read again when it changes.
    deployments: Path

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _separated(cls, given: object) -> object:
        return (
            [each.strip() for each in given.split(",") if each.strip()] if isinstance(given, str) else given
        )

    # Who it is: the producer's name in usage events, one per pod, the same after a restart.
    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")
    # Journals and in-flight tables: must outlive the process.
    state_dir: Path
    # The journal's space, per worker, on that folder's volume: allocated a segment at a time, freed when billing has
    # acknowledged all that is in one. The most is how long billing may be away before requests are refused.
    journal_segment_bytes: int = Field(default=16 * 2**20, ge=64 * 2**10)
    journal_bytes_max: int = Field(default=256 * 2**20, ge=128 * 2**10)

    # What Anthropic takes: a context of a million tokens in text, and some images in base64.
    body_bytes_max: int = Field(default=32 * 2**20, ge=1024)
    # A body of a megabyte over the slowest line. Of larger ones each four MiB may take as long: slower is a client that
    # holds a place without using it.
    body_timeout_seconds: float = Field(default=30.0, gt=0)
    # Where recordings are sent: 25 MiB, the most that an engine takes of one, written as base64, and the form around it.
    audio_body_bytes_max: int = Field(default=34 * 2**20, ge=1024)
    # Bodies of more than a MiB, all at once per worker, and half of it those of one organisation: each is held until its
    # request ends, and for a moment three or four times, so it is an eighth of a pod's memory.
    bodies_bytes_max: int = Field(default=256 * 2**20, ge=2048)
    # Between connecting or the last answer and a request's last header line.
    head_timeout_seconds: float = Field(default=30.0, ge=1)
    # Requests at once per worker: the in-flight table's slots. Others are told to come back.
    connections_max: int = Field(default=1024, ge=1)

    # Hosts from which engines may fetch images that a request names by address, as a JSON list. None, because an
    # engine fetches from inside the cluster; its own redirects must be off where one is named.
    image_hosts: Annotated[frozenset[str], NoDecode] = frozenset()
    # Plug-ins that look at requests and answers, as a JSON list of `{"plugin": "package.module:factory", "options": {…}}`.
    guardrails: Annotated[tuple[PlugIn, ...], NoDecode] = ()

    @field_validator("image_hosts", "guardrails", mode="before")
    @classmethod
    def _decoded(cls, given: object) -> object:
        """Here and not by pydantic-settings, which would not say as of any other setting what is wrong with it."""
        try:
            return json.loads(given) if isinstance(given, str) else given
        except ValueError as error:
            raise ValueError("must be JSON") from error

    # Where a deployment's slots are taken, how long a request may wait for one (a deployment may say otherwise): longer
    # than a burst, shorter than clients wait for a first byte.
    queue_wait_seconds: float = Field(default=30.0, gt=0)
    # Requests that may wait for one deployment, per worker, and of these one organisation's: each holds a connection
    # and its body, and no one can take all places.
    queue_requests_max: int = Field(default=512, ge=1)
    queue_org_requests_max: int = Field(default=128, ge=1)

    # Responses that clients go on from, in Valkey beside the limits, by all gateways together: size Valkey by it. And of
    # these one organisation's: some dozens of long conversations, or thousands of short ones.
    responses_bytes_max: int = Field(default=128 * 2**20, ge=2**20)
    responses_org_bytes_max: int = Field(default=32 * 2**20, ge=2**20)

    # Answers to requests with an idempotency key, to be given again, in Valkey too: those of an hour by all gateways
    # together, twice as much at most, and one organisation's. Of others only what they counted is kept, some 500 bytes.
    answers_bytes_max: int = Field(default=ANSWER_BOUNDS.all_bytes_max, ge=0)
    answers_org_bytes_max: int = Field(default=ANSWER_BOUNDS.org_bytes_max, ge=0)

    # The engines are next door: no answer to a connection by then is none.
    connect_timeout_seconds: float = Field(default=5.0, gt=0)
    # The slowest prefill of a full context behind a full queue.
    first_byte_timeout_seconds: float = Field(default=300.0, gt=0)
    # Between two tokens of a stream; an engine that preempts a request for longer has lost it.
    idle_timeout_seconds: float = Field(default=60.0, gt=0)
    # A whole request: 128,000 tokens at 25 a second, and then some.
    request_timeout_seconds: float = Field(default=7200.0, gt=0)
    # Engines close idle connections after 5 s (uvicorn's default): we do it first.
    keep_idle_seconds: float = Field(default=4.0, gt=0)
    # A whole unstreamed reply: full output with logprobs of every token.
    reply_bytes_max: int = Field(default=64 * 2**20, ge=1024)

    # How long running streams may go on after SIGTERM; what is left then ends with an error event.
    # Shorter than the pod's terminationGracePeriodSeconds, by the drain below and some seconds.
    grace_seconds: float = Field(default=600.0, ge=0)
    # How long billing may take to acknowledge the last events; what is left then is sent after a restart.
    drain_seconds: float = Field(default=20.0, ge=0)

    @field_validator("token_signing_secret")
    @classmethod
    def _whole_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not is_signing_secret(value.get_secret_value()):
            raise ValueError(f"must be at least {SIGNING_SECRET_BYTES_MIN} bytes as hex")
        return value

    @property
    def token_signing_secret_bytes(self) -> bytes | None:
        secret = self.token_signing_secret
        return None if secret is None else bytes.fromhex(secret.get_secret_value())

    @model_validator(mode="after")
    def _metrics_are_not_public(self) -> Self:
        if self.metrics_port == self.port:
            raise ValueError("metrics_port: must be another than port")
        return self

    @model_validator(mode="after")
    def _the_largest_body_has_room(self) -> Self:
        if max(self.body_bytes_max, self.audio_body_bytes_max) > self.bodies_bytes_max // SHARES:
            raise ValueError(
                f"bodies_bytes_max: must be no less than {SHARES} times body_bytes_max and audio_body_bytes_max"
            )
        return self

    @model_validator(mode="after")
    def _an_organisation_keeps_no_more_than_all(self) -> Self:
        if self.responses_org_bytes_max > self.responses_bytes_max:
            raise ValueError("responses_org_bytes_max: must be no more than responses_bytes_max")
        if self.answers_org_bytes_max > self.answers_bytes_max:
            raise ValueError("answers_org_bytes_max: must be no more than answers_bytes_max")
        return self

    @model_validator(mode="after")
    def _every_request_is_journalled(self) -> Self:
        check_journal(self.connections_max, self.journal_segment_bytes, self.journal_bytes_max)
        return self
