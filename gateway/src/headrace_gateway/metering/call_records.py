"""What is written down of a call at its admission: in its event, and for whoever repeats it.

What must stay true: `Prepared` holds nothing but what follows from the records of a standing and from a deployment, so
that it may stand as long as these do.
"""

import msgspec

from headrace_contracts.access import ProjectRecord
from headrace_contracts.batch_tokens import ANSWERS_KEPT_SECONDS
from headrace_contracts.deployments import Deployment
from headrace_contracts.usage import Disposition, ServiceTier, end_user_of
from headrace_gateway.call import Call
from headrace_gateway.keys import authorisation
from headrace_gateway.keys.directory import Standing
from headrace_gateway.limits import plan
from headrace_gateway.limits.idempotency import Claim
from headrace_gateway.limits.plan import Planned
from headrace_gateway.limits.pricing import UnitPrices
from headrace_gateway.metering.events import Fixed, Told, fixed_fragment, with_told

PREPARED_MAX = 64
"""For one key: deployments times the names that it asks for them by."""

NOTHING = (None,) * 5


class Prepared(msgspec.Struct, frozen=True):
    """What all requests of one key, without a task or of the same, have in common at one deployment."""

    deployment: Deployment
    prices: UnitPrices
    planned: Planned
    fixed: bytes
    """Of their events."""


def prepared_for(call: Call, standing: Standing, *, used_up: bool) -> Prepared:
    """The model must have a price. `used_up` as `authorisation.disposition` has it."""
    batched = call.credentials.batched
    place = (call.deployment.id, call.dialect, call.model_requested, call.again, used_up, batched)
    known: Prepared | None = standing.prepared.get(place)
    # A new table of deployments has new ones under the same ids.
    if known is not None and known.deployment is call.deployment:
        return known
    if len(standing.prepared) >= PREPARED_MAX:
        standing.prepared.clear()
    standing.prepared[place] = made = _prepare(call, standing, used_up=used_up)
    return made


def _prepare(call: Call, standing: Standing, *, used_up: bool) -> Prepared:
    deployment, project = call.deployment, standing.project.record
    task = None if standing.task is None else standing.task.record
    disposition = authorisation.disposition(project, task, used_up=used_up)
    return Prepared(
        deployment=deployment,
        prices=standing.prices.record.of(deployment.model, batched=call.credentials.batched),
        planned=plan.planned(
            standing.key.record,
            project,
            task,
            disposition=disposition,
            model=deployment.model,
            again=call.again,
        ),
        fixed=_fixed(call, standing, disposition),
    )


def _fixed(call: Call, standing: Standing, disposition: Disposition) -> bytes:
    project, deployment = standing.project.record, call.deployment
    return fixed_fragment(
        Fixed(
            org=project.org,
            project=project.id,
            key=standing.key.record.id,
            wallet=project.wallet,
            currency=project.currency,
            deployment=deployment.id,
            model_requested=call.model_requested,
            model_served=deployment.model,
            dialect=call.dialect,
            price_book=standing.prices.record.price_book,
            disposition=disposition,
            revision=deployment.revision,
            witnessed=deployment.witnessed,
        )
    )


def identity_of(call: Call, prepared: Prepared, project: ProjectRecord) -> bytes:
    """All that its event says of a call but its id and its time."""
    told = (call.session, call.task, call.task_attempt, call.end_user, call.trace)
    if told == NOTHING and not call.credentials.batched:
        return prepared.fixed
    end_user = None if call.end_user is None else end_user_of(project.org, call.end_user)
    tier = ServiceTier.BATCH if call.credentials.batched else ServiceTier.STANDARD
    return with_told(
        prepared.fixed, Told(call.session, call.task, call.task_attempt, end_user, call.trace, tier)
    )


def claim_of(call: Call, project: ProjectRecord) -> Claim | None:
    asked = call.idempotency
    if asked is None:
        return None
    if call.credentials.batched:
        # Apart from the customer's own, so that neither their keys meet nor does one take the other's space; and for
        # less long, so that of all that a batch answers more can be kept.
        return Claim(
            f"{project.id}:batch",
            asked.key,
            asked.request,
            ANSWERS_KEPT_SECONDS,
            counted_with=f"{project.org}:batch",
        )
    return Claim(project.id, asked.key, asked.request, counted_with=project.org)
