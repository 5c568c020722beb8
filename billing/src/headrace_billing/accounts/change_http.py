"""The admin's routes that change organisations, projects and keys, each for the version in `If-Match`."""

import re
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Header
from pydantic import AwareDatetime, Field

from headrace_billing.accounts import changing, outbox, store
from headrace_billing.accounts.access_bodies import Cidrs, FallbackModels, Models, Scopes, Weight
from headrace_billing.accounts.documents import (
    KeyDocument,
    OrganizationDocument,
    ProjectDocument,
    RotatedKeyDocument,
    key_document,
    organization_document,
    project_document,
)
from headrace_billing.accounts.http import PushPending, expiry_of, secret_for
from headrace_billing.accounts.key import secret_sha256, shown_prefix, signs_tokens
from headrace_billing.accounts.limit_bodies import Limits, limits_of
from headrace_billing.accounts.limited_models import require_priced
from headrace_billing.answers import Answering
from headrace_billing.bodies import Body, Id, Name
from headrace_billing.callers import AdminOnly
from headrace_billing.errors import BillingError
from headrace_billing.parts import Parts, PartsOf
from headrace_billing.valkey import ValkeyError
from headrace_contracts.access import Priority

# Longer, and two secrets are simply two keys.
GRACE_SECONDS_MAX = 30 * 86400

log = structlog.get_logger()
router = APIRouter(tags=["accounts"], dependencies=[AdminOnly], route_class=Answering)


class VersionMissing(BillingError):
    """A change must name the version that it changes, so that nobody's is lost unseen."""

    code = "version_missing"

    def __init__(self) -> None:
        super().__init__('Send If-Match with the version that you saw, as in If-Match: "3".')


class OrganizationChange(Body):
    """What is left out stays."""

    name: Name = Field(default_factory=str)
    models: Models | None = None
    limits: Limits = ()
    weight: Weight = 1


class ProjectChange(Body):
    """What is left out stays."""

    name: Name = Field(default_factory=str)
    models: Models | None = None
    allowed_cidrs: Cidrs | None = None
    limits: Limits = ()
    fallback_models: FallbackModels = Field(default_factory=list)


class KeyChange(Body):
    """What is left out stays."""

    name: Name = Field(default_factory=str)
    expires_at: AwareDatetime | None = None
    """Null is never. A key that has expired works again once this lies in the future; a revoked one stays revoked."""
    models: Models | None = None
    scopes: Scopes | None = None
    allowed_cidrs: Cidrs | None = None
    limits: Limits = ()
    priority: Priority = Priority.INTERACTIVE
    fallback_models: FallbackModels | None = None


class Rotation(Body):
    grace_seconds: Annotated[int, Field(ge=0, le=GRACE_SECONDS_MAX)]


IfMatch = Annotated[str | None, Header(max_length=40)]


@router.patch("/v1/organizations/{organization_id}")
async def change_organization(
    organization_id: Id, body: OrganizationChange, parts: PartsOf, if_match: IfMatch = None
) -> OrganizationDocument:
    """Its limits are counted over all of its projects."""
    version = version_of(if_match)
    async with parts.database.begin() as session:
        before = await store.organization(session, organization_id)
        await require_priced(session, body.limits)
        places = await changing.change_organization(session, replace(before, version=version, **_given(body)))
        changed = await store.organization(session, organization_id)
    await _push(parts, organization_id, places)
    return organization_document(changed)


@router.patch("/v1/projects/{project_id}")
async def change_project(
    project_id: Id, body: ProjectChange, parts: PartsOf, if_match: IfMatch = None
) -> ProjectDocument:
    version = version_of(if_match)
    async with parts.database.begin() as session:
        before = await store.project(session, project_id)
        await require_priced(session, body.limits)
        places = await changing.change_project(session, replace(before, version=version, **_given(body)))
        changed = await store.project(session, project_id)
    await _push(parts, project_id, places)
    return project_document(changed)


@router.patch("/v1/keys/{key_id}")
async def change_key(key_id: Id, body: KeyChange, parts: PartsOf, if_match: IfMatch = None) -> KeyDocument:
    version, given = version_of(if_match), _given(body)
    if "expires_at" in given:
        given["expires_at"] = expiry_of(body.expires_at, now=parts.now())
    async with parts.database.begin() as session:
        before = await store.key(session, key_id)
        await require_priced(session, body.limits)
        places = await changing.change_key(session, replace(before, version=version, **given))
        changed = await store.key(session, key_id)
    await _push(parts, key_id, places)
    return key_document(changed)


@router.post("/v1/keys/{key_id}/rotate")
async def rotate_key(key_id: Id, body: Rotation, parts: PartsOf) -> RotatedKeyDocument:
    """The answer holds the new secret, this once; the old one ends after the grace, and one that an earlier rotation left now."""
    ends = parts.now() + timedelta(seconds=body.grace_seconds)
    async with parts.database.begin() as session:
        before = await store.key(session, key_id)
        secret = secret_for(parts, signs=signs_tokens(before.prefix))
        key, places = await changing.rotate_key(
            session,
            key_id,
            secret_sha256=secret_sha256(secret),
            prefix=shown_prefix(secret),
            old_expires_at=ends,
        )
    try:
        await outbox.push(parts.database, parts.valkey, places)
    except ValkeyError as error:
        # The secret is told only here, so this is no moment to fail: the worker pushes what is left.
        log.warning("rotation_left_to_the_worker", key=key_id, error=type(error).__name__)
    return {**key_document(key), "secret": secret, "old_secret_expires_at": ends.isoformat()}


def _given(body: OrganizationChange | ProjectChange | KeyChange) -> dict[str, Any]:
    """The members that the caller named, under the names that the account has for them."""
    given = {name: getattr(body, name) for name in body.model_fields_set}
    return given | {"limits": limits_of(body.limits)} if "limits" in given else given


async def _push(parts: Parts, subject: str, places: list[str]) -> None:
    """Answers success only once Valkey has the change: from then on it holds for every request."""
    try:
        await outbox.push(parts.database, parts.valkey, places)
    except ValkeyError as error:
        log.warning("change_not_pushed", subject=subject, error=type(error).__name__)
        raise PushPending(subject) from error


def version_of(if_match: str | None) -> int:
    found = re.fullmatch(r'"?([0-9]{1,18})"?', if_match or "")
    if found is None:
        raise VersionMissing
    return int(found[1])
