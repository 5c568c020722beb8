"""A request at each deployment that would do for it: its own model's first, then those that may answer instead.

What must stay true: nobody is sent to a model that the key may not name, nor to one that can't do what is asked.
"""

import time
from collections.abc import Sequence

from msgspec.structs import replace

from headrace_contracts.deployments import Deployment
from headrace_gateway.call import Call, Caller, Credentials, Idempotency
from headrace_gateway.dialects.dialect import InferenceRequest
from headrace_gateway.dialects.offer import check_offer
from headrace_gateway.errors import InvalidRequest, ModelNotFound
from headrace_gateway.http.authorization import id_header
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.routing.breaker import Breakers, RetryBudget
from headrace_gateway.routing.choice import in_order, named_by
from headrace_gateway.routing.deployments import DeploymentsFile


class Candidates:
    def __init__(
        self,
        deployments: DeploymentsFile,
        breakers: Breakers,
        budget: RetryBudget,
        *,
        image_hosts: frozenset[str],
    ) -> None:
        self._deployments = deployments
        self._breakers = breakers
        self._budget = budget
        self._image_hosts = image_hosts

    def calls(
        self,
        exchange: Exchange,
        request: InferenceRequest,
        credentials: Credentials,
        caller: Caller,
        idempotency: Idempotency | None,
        *,
        trace: str | None,
    ) -> list[Call]:
        """Best first. `trace`: the client's, which it brought. Raises why the model that was asked for can't be."""
        session = id_header(exchange, "X-Session-Id")
        named = self._deployments.current.for_model(request.model, caller.org)
        if len(named) == 1 and not named[0].projects and not caller.fallback_models:
            # Nearly always: where there is nothing to choose, choosing costs nothing.
            check_offer(request, named[0], image_hosts=self._image_hosts)
            chosen = [(named[0], False)]
        else:
            chosen = self._chosen(request, caller, session)
        allowed = [each for each in chosen if self._breakers.allows(each[0])]
        if not allowed:
            raise self._breakers.refusal(chosen[0][0])
        if len(allowed) > 1:
            allowed.sort(key=lambda each: self._breakers.disfavours(each[0], caller.org))
        return [
            Call(
                credentials=credentials,
                dialect=request.dialect,
                model_requested=request.model,
                deployment=deployment,
                prompt_tokens_max=request.prompt_tokens_max(deployment),
                output_tokens_max=request.output_tokens_max,
                streamed=request.streamed,
                choices=request.choices,
                once=request.once,
                session=session,
                task=id_header(exchange, "X-Task-Id"),
                task_attempt=id_header(exchange, "X-Task-Attempt"),
                end_user=request.end_user or None,
                idempotency=idempotency,
                instead=instead,
                trace=trace,
            )
            for deployment, instead in allowed
        ]

    def elsewhere(self, calls: Sequence[Call], failed: Call, *, org: str, trace: str) -> list[Call]:
        """Where else the request may be tried, if it may. `trace`: that of the first try."""
        others = [
            replace(call, again=True, trace=trace)
            for call in calls
            if call.deployment.id != failed.deployment.id
            and self._breakers.allows(call.deployment)
            # Who fails everywhere does not use up what others' second tries need.
            and not self._breakers.disfavours(call.deployment, org)
        ]
        return others if others and self._budget.spend() else []

    def _chosen(
        self, request: InferenceRequest, caller: Caller, session: str | None
    ) -> list[tuple[Deployment, bool]]:
        """Each with whether it serves another model than the one that was asked for."""

        def affinity() -> bytes | None:
            return request.beginning if session is None else session.encode()

        now = time.time()

        def found(model: str) -> list[Deployment]:
            named = self._deployments.current.for_model(model, caller.org)
            return in_order(named, org=caller.org, project=caller.project_id, affinity=affinity, now=now)

        asked = named_by(found(request.model), caller.may_name, now=now)
        if not asked:
            raise ModelNotFound(request.model)
        chosen = [(each, False) for each in self._offering(asked, request)]
        for model in caller.fallback_models:
            others = [each for each in found(model) if each.model != asked[0].model and caller.may_name(each)]
            chosen += [(each, True) for each in others if self._refusal(each, request) is None]
        return chosen

    def _offering(self, asked: list[Deployment], request: InferenceRequest) -> list[Deployment]:
        """Those that can do what is asked; raises why the best can't, where none can."""
        refusals = [(each, self._refusal(each, request)) for each in asked]
        offering = [each for each, refusal in refusals if refusal is None]
        if not offering and (refusal := refusals[0][1]) is not None:
            raise refusal
        return offering

    def _refusal(self, deployment: Deployment, request: InferenceRequest) -> InvalidRequest | None:
        try:
            check_offer(request, deployment, image_hosts=self._image_hosts)
        except InvalidRequest as refusal:
            return refusal
        return None
