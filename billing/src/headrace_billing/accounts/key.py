"""An API key: how its secret is made, found again and shown, and what a gateway is told of it and its project."""

import hashlib
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime

from headrace_billing.accounts.entitlement import Entitlement
from headrace_contracts.access import KeyRecord, KeyScope, KeyStatus, Limit, Priority, ProjectRecord
from headrace_contracts.signing_keys import LOOKUP_PREFIX, secret_of
from headrace_contracts.usage import Disposition

SECRET_PREFIX = "hr-"  # noqa: S105 - what every secret begins with, no secret
SECRET_BYTES = 32
LOOKUP_BYTES = 16
# Enough to tell one's keys apart, and 2^198 too few to guess one.
SHOWN_CHARACTERS = 10


def new_secret() -> str:
    """256 random bits; shown to the customer once and kept nowhere."""
    return SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def new_signing_secret(signing_secret: bytes) -> str:
    """One whose owner may sign tokens with it instead of sending it, as Z.ai's older clients do."""
    return secret_of(LOOKUP_PREFIX + secrets.token_urlsafe(LOOKUP_BYTES), signing_secret)


def signs_tokens(prefix: str) -> bool:
    """By what is shown of the secret."""
    return prefix.startswith(LOOKUP_PREFIX)


def secret_sha256(secret: str) -> str:
    """A plain hash is enough to store: nobody can try 2^256 secrets."""
    return hashlib.sha256(secret.encode()).hexdigest()


def shown_prefix(secret: str) -> str:
    return secret[:SHOWN_CHARACTERS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization:
    id: str
    name: str
    created_at: datetime
    models: list[str] | None = None
    limits: list[Limit] = field(default_factory=list)
    weight: int = 1
    """Its share of what many wait for, beside the others' shares."""
    paused: bool = False
    """Its invoices are overdue: gateways take no request of its projects."""
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    id: str
    org: str
    name: str
    currency: str
    disposition: Disposition
    wallet: str
    status: KeyStatus
    models: list[str] | None
    limits: list[Limit]
    created_at: datetime
    allowed_cidrs: list[str] | None = None
    fallback_models: list[str] = field(default_factory=list)
    overage: bool = False
    """Of a project of a contract: requests go on when its commitment is used up."""
    version: int = 1

    def record(
        self, org: Organization, *, price_list: str | None, plan: Entitlement | None = None
    ) -> ProjectRecord:
        own = [] if plan is None or plan.project is None else plan.limits
        shared = [] if plan is None or plan.project is not None else plan.limits
        return ProjectRecord(
            id=self.id,
            org=self.org,
            wallet=self.wallet,
            currency=self.currency,
            disposition=Disposition.PLAN_WINDOW
            if plan is not None and plan.pays_for_requests
            else self.disposition,
            status=self.status,
            models=self.models,
            allowed_cidrs=self.allowed_cidrs,
            org_models=org.models,
            plan_models=None if plan is None else plan.models,
            limits=[*self.limits, *own],
            org_limits=[*org.limits, *shared],
            paused=org.paused,
            price_list=price_list,
            org_weight=org.weight,
            fallback_models=self.fallback_models,
            overage=self.overage,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    id: str
    project: str
    name: str
    secret_sha256: str
    prefix: str
    status: KeyStatus
    models: list[str] | None
    limits: list[Limit]
    expires_at: datetime | None
    created_at: datetime
    revoked_at: datetime | None = None
    scopes: list[KeyScope] | None = None
    allowed_cidrs: list[str] | None = None
    service_account: str | None = None
    """Whose it is, if a program's."""
    priority: Priority = Priority.INTERACTIVE
    fallback_models: list[str] | None = None
    version: int = 1

    def record(self) -> KeyRecord:
        return KeyRecord(
            id=self.id,
            project=self.project,
            status=self.status,
            expires_at_us=None if self.expires_at is None else microseconds(self.expires_at),
            models=self.models,
            limits=self.limits,
            scopes=self.scopes,
            allowed_cidrs=self.allowed_cidrs,
            priority=self.priority,
            fallback_models=self.fallback_models,
        )

    def record_of_retired(self, expires_at: datetime) -> KeyRecord:
        """What gateways hear of the secret before the last rotation: the same key, for a while."""
        ends = expires_at if self.expires_at is None else min(expires_at, self.expires_at)
        return replace(self, expires_at=ends).record()


def microseconds(at: datetime) -> int:
    """Since the Unix epoch, exact."""
    whole = int(at.replace(microsecond=0).timestamp())
    return whole * 1_000_000 + at.microsecond
