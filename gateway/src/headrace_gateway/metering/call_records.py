"""What is written down of a call at its admission: in its event, and for whoever repeats it."""

from headrace_contracts.access import ProjectRecord
from headrace_contracts.usage import Disposition, ServiceTier, end_user_of
from headrace_gateway.call import Call
from headrace_gateway.keys.directory import Standing
from headrace_gateway.limits.idempotency import Claim
from headrace_gateway.metering.events import Fixed, fixed_fragment


def claim_of(call: Call, project: ProjectRecord) -> Claim | None:
    asked = call.idempotency
    if asked is None:
        return None
    # Batches keep their answers apart: neither do a customer's own keys meet theirs, nor do they take its space.
    place = f"{project.id}:batch" if call.credentials.batched else project.id
    return Claim(place, asked.key, asked.request)


def fixed_of(call: Call, standing: Standing, disposition: Disposition) -> bytes:
    project = standing.project.record
    return fixed_fragment(
        Fixed(
            org=project.org,
            project=project.id,
            key=standing.key.record.id,
            wallet=project.wallet,
            currency=project.currency,
            deployment=call.deployment.id,
            model_requested=call.model_requested,
            model_served=call.deployment.model,
            dialect=call.dialect,
            session=call.session,
            task=call.task,
            task_attempt=call.task_attempt,
            price_book=standing.prices.record.price_book,
            disposition=disposition,
            revision=call.deployment.revision,
            service_tier=ServiceTier.BATCH if call.credentials.batched else ServiceTier.STANDARD,
            end_user=None if call.end_user is None else end_user_of(project.org, call.end_user),
            trace=call.trace,
        )
    )
