"""Organisations, projects and keys as the API shows them; a secret is in none of them."""

from typing import Any

from headrace_billing.accounts.key import Key, Organization, Project
from headrace_billing.accounts.limit_bodies import limit_documents


def organization_document(organization: Organization) -> dict[str, Any]:
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


def project_document(project: Project) -> dict[str, Any]:
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


def key_document(key: Key) -> dict[str, Any]:
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
