"""What billing's processes are told by their environment, all of it under `HEADRACE_BILLING_`.

A secret has no default: a process without one must not start.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, Self, TypeVar

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from headrace_billing.batches.bounds import FILE_BYTES_MAX, LINES_MAX, PROJECT_BYTES_MAX, BatchBounds
from headrace_billing.payments.access import StripeAccess
from headrace_contracts.signing_keys import SIGNING_SECRET_BYTES_MIN, is_signing_secret

SECRET_CHARACTERS_MIN = 16
SIGNING_KEY_BYTES = 32

Settings = TypeVar("Settings", bound=BaseSettings)


def from_environment(settings: type[Settings]) -> Settings:
    """Raises pydantic's `ValidationError`, which names every variable that is missing or wrong, without values."""
    return settings()


class DatabaseSettings(BaseSettings):
    """Enough to migrate."""

    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_BILLING_", extra="ignore", hide_input_in_errors=True
    )

    database_url: SecretStr


class WorkerSettings(DatabaseSettings):
    valkey_url: SecretStr
    signing_key: SecretStr
    """32 bytes as hex; signs evidence, and later receipts."""

    # `module:class` of whatever reckons tax on invoices; the built-in one goes by each seller's table of rates, and
    # `stripe` is Stripe Tax.
    tax_adapter: str = "headrace_billing.invoicing.tax:TaxTable"

    # For an installation that only tests: its time can be moved ahead over the API, and its invoices say so.
    test_clock: bool = False

    # A gateway sends again after 10 s what was not acknowledged; a cold Valkey waits that long and a little more
    # for usage that was under way when it was lost.
    drain_wait_seconds: float = Field(12, ge=0, le=120)

    # Where Prometheus scrapes the process: a port of its own, never the API's. None where not set.
    metrics_host: IPv4Address | IPv6Address = IPv4Address("127.0.0.1")
    metrics_port: int | None = Field(None, ge=1, le=65535)

    # Stripe, for whoever lets customers pay: the key, the secrets of the webhook's endpoint (with commas between them
    # while one takes another's place) and where customers come back to, all three or none.
    stripe_api_key: SecretStr | None = Field(None, min_length=SECRET_CHARACTERS_MIN)
    stripe_webhook_secrets: SecretStr | None = Field(None, min_length=SECRET_CHARACTERS_MIN)
    payments_return_url: str | None = Field(None, min_length=1)
    # A test of one's own answers at another address.
    stripe_api_url: str = "https://api.stripe.com"

    @model_validator(mode="after")
    def _all_of_stripe(self) -> Self:
        given = {
            "stripe_api_key": self.stripe_api_key,
            "stripe_webhook_secrets": self.stripe_webhook_secrets,
            "payments_return_url": self.payments_return_url,
        }
        missing = [name for name, value in given.items() if value is None]
        if 0 < len(missing) < len(given):
            msg = f"Stripe needs all of {', '.join(given)} or none; missing: {', '.join(missing)}"
            raise ValueError(msg)
        if self.tax_adapter == "stripe" and missing:
            msg = f"tax_adapter is stripe, which needs {', '.join(missing)}"
            raise ValueError(msg)
        return self

    @property
    def stripe_access(self) -> StripeAccess | None:
        """Null where no Stripe account is connected."""
        if self.stripe_api_key is None or self.stripe_webhook_secrets is None or not self.payments_return_url:
            return None
        secrets = self.stripe_webhook_secrets.get_secret_value().split(",")
        return StripeAccess(
            api_key=self.stripe_api_key.get_secret_value(),
            webhook_secrets=tuple(each.strip() for each in secrets if each.strip()),
            api_url=self.stripe_api_url,
            return_url=self.payments_return_url,
        )

    # The gateway that serves batches, and what it knows billing by; without both there are no batches.
    gateway_url: str | None = Field(None, pattern=r"^https?://[^/?#]+/?$")
    ingest_token: SecretStr | None = Field(None, min_length=SECRET_CHARACTERS_MIN)
    # Their requests that a worker has under way at once: beside everybody else's, and behind them where these wait.
    batch_requests_max: int = Field(16, ge=1, le=1024)
    # What a customer may upload at once, what a project may store of it, and the requests of one batch.
    batch_file_bytes_max: int = Field(FILE_BYTES_MAX, ge=1024)
    batch_project_bytes_max: int = Field(PROJECT_BYTES_MAX, ge=1024)
    batch_lines_max: int = Field(LINES_MAX, ge=1)

    @property
    def batch_bounds(self) -> BatchBounds | None:
        """Null where there are no batches."""
        if self.gateway_url is None or self.ingest_token is None:
            return None
        return BatchBounds(
            file_bytes_max=self.batch_file_bytes_max,
            project_bytes_max=self.batch_project_bytes_max,
            lines_max=self.batch_lines_max,
        )

    # Networks beside the public ones that webhooks may be sent to, as CIDRs with commas between them; to these without
    # TLS too.
    webhook_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()

    @field_validator("webhook_networks", mode="before")
    @classmethod
    def _networks(cls, given: object) -> object:
        return _separated(given)

    @field_validator("signing_key")
    @classmethod
    def _whole_key(cls, value: SecretStr) -> SecretStr:
        try:
            size = len(bytes.fromhex(value.get_secret_value()))
        except ValueError:
            size = 0
        if size != SIGNING_KEY_BYTES:
            msg = f"must be {SIGNING_KEY_BYTES} bytes as hex"
            raise ValueError(msg)
        return value

    @property
    def signing_key_bytes(self) -> bytes:
        return bytes.fromhex(self.signing_key.get_secret_value())


class ApiSettings(WorkerSettings):
    host: str = "127.0.0.1"
    port: int = Field(8081, ge=1, le=65535)
    workers: int = Field(1, ge=1, le=64)
    admin_token: SecretStr = Field(min_length=SECRET_CHARACTERS_MIN)
    ingest_token: SecretStr = Field(min_length=SECRET_CHARACTERS_MIN)
    # Networks of the load balancers before it, as CIDRs with commas between them: only what comes from there may say
    # in X-Forwarded-For for whom.
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    token_signing_secret: SecretStr | None = None
    """At least 32 bytes as hex, the same as the gateways'; makes keys that sign tokens. Without it none are made."""

    @model_validator(mode="after")
    def _metrics_are_apart(self) -> Self:
        if self.metrics_port is None:
            return self
        if self.metrics_port == self.port:
            msg = "metrics_port: must be another than port"
            raise ValueError(msg)
        if self.workers > 1:
            msg = "metrics_port: each process has a port, so let replicas do the scaling and workers be 1"
            raise ValueError(msg)
        return self

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _proxies(cls, given: object) -> object:
        return _separated(given)

    @field_validator("token_signing_secret")
    @classmethod
    def _whole_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not is_signing_secret(value.get_secret_value()):
            msg = f"must be at least {SIGNING_SECRET_BYTES_MIN} bytes as hex"
            raise ValueError(msg)
        return value

    @property
    def token_signing_secret_bytes(self) -> bytes | None:
        secret = self.token_signing_secret
        return None if secret is None else bytes.fromhex(secret.get_secret_value())


def _separated(given: object) -> object:
    return [each.strip() for each in given.split(",") if each.strip()] if isinstance(given, str) else given
