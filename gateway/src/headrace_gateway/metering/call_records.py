"""What is written down of a call at its admission: in its event, and for whoever repeats it."""

from headrace_contracts.access import ProjectRecord
from headrace_contracts.batch_tokens import ANSWERS_KEPT_SECONDS
from headrace_contracts.usage import Disposition, ServiceTier, end_user_of
from headrace_gateway.call import Call
from headrace_gateway.keys.directory import Standing
from headrace_gateway.limits.idempotency import Claim
from headrace_gateway.metering.events import Fixed, fixed_fragment


def claim_of(call: Call, project: ProjectRecord) -> Claim | None:
    asked = call.idempotency
    if asked is None:
        return None
    if call.credentials.batched:
        # Apart from the customer's own, so that neither their keys meet nor does one take the other's space; and for
        # less long, so that of all that a batch answers more can be kept.
        return Claim(f"{project.id}:batch", asked.key, asked.request, ANSWERS_KEPT_SECONDS)
    return Claim(project.id, asked.key, asked.request)


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
            witnessed=call.deployment.witnessed,
        )
    )
