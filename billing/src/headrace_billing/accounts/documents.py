"""Organisations, projects and keys as the API shows them; a secret is in none of them."""

from collections.abc import Sequence

from typing_extensions import TypedDict

from headrace_billing.accounts.key import Key, Organization, Project
from headrace_billing.accounts.limit_bodies import LimitDocument, limit_documents


class OrganizationDocument(TypedDict):
    id: str
    name: str
    models: Sequence[str] | None
    limits: list[LimitDocument]
    weight: int
    paused: bool
    version: int
    created_at: str


class ProjectDocument(TypedDict):
    id: str
    organization: str
    name: str
    currency: str
    disposition: str
    wallet: str
    status: str
    models: Sequence[str] | None
    allowed_cidrs: Sequence[str] | None
    limits: list[LimitDocument]
    fallback_models: Sequence[str]
    version: int
    created_at: str


class KeyDocument(TypedDict):
    id: str
    project: str
    name: str
    service_account: str | None
    prefix: str
    status: str
    models: Sequence[str] | None
    scopes: Sequence[str] | None
    allowed_cidrs: Sequence[str] | None
    limits: list[LimitDocument]
    priority: str
    fallback_models: Sequence[str] | None
    version: int
    expires_at: str | None
    created_at: str
    revoked_at: str | None


class NewKeyDocument(KeyDocument):
    secret: str


class RotatedKeyDocument(NewKeyDocument):
    old_secret_expires_at: str


def organization_document(organization: Organization) -> OrganizationDocument:
    return {
        "id": organization.id,
        "name": organization.name,
        "models": organization.models,
        "limits": limit_documents(organization.limits),
        "weight": organization.weight,
        "paused": organization.paused,
        "version": organization.version,
        "created_at": organization.created_at.isoformat(),
    }


def project_document(project: Project) -> ProjectDocument:
    return {
        "id": project.id,
        "organization": project.org,
        "name": project.name,
        "currency": project.currency,
        "disposition": project.disposition,
        "wallet": project.wallet,
        "status": project.status,
        "models": project.models,
        "allowed_cidrs": project.allowed_cidrs,
        "limits": limit_documents(project.limits),
        "fallback_models": project.fallback_models,
        "version": project.version,
        "created_at": project.created_at.isoformat(),
    }


def key_document(key: Key) -> KeyDocument:
    return {
        "id": key.id,
        "project": key.project,
        "name": key.name,
        "service_account": key.service_account,
        "prefix": key.prefix,
        "status": key.status,
        "models": key.models,
        "scopes": key.scopes,
        "allowed_cidrs": key.allowed_cidrs,
        "limits": limit_documents(key.limits),
        "priority": key.priority,
        "fallback_models": key.fallback_models,
        "version": key.version,
        "expires_at": None if key.expires_at is None else key.expires_at.isoformat(),
        "created_at": key.created_at.isoformat(),
        "revoked_at": None if key.revoked_at is None else key.revoked_at.isoformat(),
    }
