"""What a caller can cause, each with a stable code. `http.problems` alone knows statuses and wire shapes."""

import math
from collections.abc import Sequence

from headrace_gateway.limits.state import LimitState


class GatewayError(Exception):
    """Base of every refusal that a client sees; `str()` is its message."""

    code: str


class InvalidRequest(GatewayError):
    """The body or a header can't be what the endpoint takes; `param` names the culprit where one is known."""

    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class FieldMissing(InvalidRequest):
    def __init__(self, name: str) -> None:
        super().__init__(f"`{name}` is missing.", param=name)


class NotOffered(InvalidRequest):
    """The model can't do what the request asks of it, another one may."""

    code = "not_offered"


class ContentRefused(GatewayError):
    """A guardrail of the operator's refuses the request."""

    code = "content_refused"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The request was refused by a guardrail: {reason}. Nothing was sent to the model.")


class GuardrailFailed(GatewayError):
    """A guardrail that has to look at this could not; ask again."""

    code = "guardrail_failed"
    retry_after_seconds = 1.0


class DuplicateRequest(InvalidRequest):
    """The client's own id of a request was used before."""

    code = "duplicate_request_id"


class BodyTooLarge(GatewayError):
    code = "body_too_large"

    def __init__(self, *, limit_bytes: int) -> None:
        super().__init__(f"The request body is larger than {limit_bytes} bytes.")
        self.limit_bytes = limit_bytes


class ContextLengthExceeded(GatewayError):
    code = "context_length_exceeded"

    def __init__(self, message: str, *, prompt_tokens: int | None, context_tokens: int | None) -> None:
        """Both as the engine told them, null where it did not."""
        super().__init__(message)
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens


class Unauthenticated(GatewayError):
    code = "invalid_api_key"


class KeyMissing(Unauthenticated):
    """Nothing was sent that could be a key."""


class KeyRevoked(GatewayError):
    code = "api_key_revoked"


class ServicePaused(GatewayError):
    """Invoices of the organisation are overdue."""

    code = "service_paused"


class KeyExpired(GatewayError):
    code = "api_key_expired"


class IpNotAllowed(GatewayError):
    """The key, or its project, may not be used from there."""

    code = "ip_not_allowed"

    def __init__(self, address: object) -> None:
        seen = "an address that could not be told" if address is None else str(address)
        super().__init__(f"This API key may not be used from {seen}.")


class ScopeMissing(GatewayError):
    """The key was made for something else."""

    code = "scope_missing"

    def __init__(self, scope: str) -> None:
        super().__init__(
            f"This API key lacks the scope `{scope}`. Use another, or have it added to this one."
        )


class ModelNotFound(GatewayError):
    code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(f"The model {model!r} does not exist or this key has no access to it.")
        self.model = model


class ResponseNotFound(GatewayError):
    code = "response_not_found"

    def __init__(self, response_id: str) -> None:
        super().__init__(
            f"The response {response_id[:128]!r} is not kept, or no longer. Send the conversation as `input`."
        )


class PreviousResponseNotFound(InvalidRequest):
    """The response that a request goes on from."""

    code = "previous_response_not_found"

    def __init__(self, response_id: str) -> None:
        super().__init__(str(ResponseNotFound(response_id)), param="previous_response_id")


class ItemNotFound(InvalidRequest):
    """An item of an earlier answer that a request names by its id."""

    code = "item_not_found"

    def __init__(self, item_id: str) -> None:
        super().__init__(
            f"The item {item_id[:128]!r} is not kept, or no longer. Send the item itself in `input`.",
            param="input",
        )


class ModelNotAllowed(GatewayError):
    code = "model_not_allowed"


class TaskNotOpen(GatewayError):
    """The task named by `X-Task-Id` does not exist, is another project's, or is closed."""

    code = "task_not_open"


class IdempotencyInProgress(GatewayError):
    """The first request with this Idempotency-Key is still running; ask again for its answer."""

    code = "idempotency_in_progress"
    retry_after_seconds = 1.0


class IdempotencyKeyReused(GatewayError):
    """This Idempotency-Key was sent before with another request; send another key with this one."""

    code = "idempotency_key_reused"


class AnswerNotKept(GatewayError):
    """The request with this Idempotency-Key was served and charged once, but there is no whole answer to give again."""

    code = "idempotency_answer_not_kept"

    def __init__(self, *, request_id: str, ending: str, output_tokens: int) -> None:
        super().__init__(
            f"The request with this Idempotency-Key ran as {request_id}, ended {ending} after {output_tokens} output "
            "tokens and was charged once. Its answer is not kept; send another key to run it again."
        )
        self.request_id = request_id
        self.ending = ending
        self.output_tokens = output_tokens


class LimitReached(GatewayError):
    """A limit of the key, project, task or wallet. Amounts are micro-units for money, else plain counts."""

    code = "rate_limited"

    def __init__(
        self,
        *,
        limit: str,
        scope: str,
        used: int,
        ceiling: int,
        weight: int,
        retry_after_seconds: float | None,
        resets_in_seconds: float | None,
        states: Sequence[LimitState] = (),
    ) -> None:
        """`retry_after_seconds`: until this request would pass; `resets_in_seconds`: until the limit is whole again.

        Both null where waiting does not help. `states`: how the request's limits stand, for the answer's headers.
        """
        said = self._said(limit, scope, used, ceiling, weight)
        super().__init__(
            said if retry_after_seconds is None else f"{said} Try again in {_duration(retry_after_seconds)}."
        )
        self.limit = limit
        self.scope = scope
        self.used = used
        self.ceiling = ceiling
        self.weight = weight
        self.retry_after_seconds = retry_after_seconds
        self.resets_in_seconds = resets_in_seconds
        self.states = states

    @staticmethod
    def _said(limit: str, scope: str, used: int, ceiling: int, weight: int) -> str:
        return f"Limit {limit} of {scope}: used {used} of {ceiling}, this request weighs {weight}."


class InsufficientBalance(LimitReached):
    """The wallet can't pay the hold; topping up helps, waiting does not."""

    code = "insufficient_balance"

    @staticmethod
    def _said(limit: str, scope: str, used: int, ceiling: int, weight: int) -> str:  # noqa: ARG004
        return (
            f"This request may cost up to {_money(weight)} and {_money(ceiling - used)} is free in {scope}. "
            "Top it up, or ask for fewer tokens."
        )


class CommitmentUsedUp(LimitReached):
    """Nothing is left of what the contract commits for the running period, and the contract stops there."""

    code = "commitment_used_up"

    @staticmethod
    def _said(limit: str, scope: str, used: int, ceiling: int, weight: int) -> str:
        return f"{_money(ceiling - used)} is left of the {limit} in {scope}, and this request may cost up to {_money(weight)}."


class BudgetExhausted(LimitReached):
    code = "budget_exhausted"

    @staticmethod
    def _said(limit: str, scope: str, used: int, ceiling: int, weight: int) -> str:
        return (
            f"Budget {limit} of {scope}: {_money(used)} of {_money(ceiling)} is spent or held, "
            f"and this request may cost up to {_money(weight)}."
        )


class LimitsRebuilding(GatewayError):
    """Valkey is cold: counters are being loaded from the ledger."""

    code = "limits_rebuilding"
    retry_after_seconds = 2.0


class LimitsUnavailable(GatewayError):
    """Valkey can't be reached, so nothing new is admitted."""

    code = "limits_unavailable"
    retry_after_seconds = 2.0


class Overloaded(GatewayError):
    """No space for a usage event (disk, journal or stream), so the request could not be accounted for; or for its body."""

    code = "overloaded"
    retry_after_seconds = 5.0


class CapacityExhausted(GatewayError):
    """All slots of the model's deployment are taken, and too many wait for them already or this one has waited long."""

    code = "capacity_exhausted"

    def __init__(self, *, queue_length: int, retry_after_seconds: float | None) -> None:
        """`retry_after_seconds`: until the turn of one that comes now, by the measured rate; null before there is one."""
        super().__init__(
            f"The model's capacity is in use and {queue_length} requests wait for it. Try again later."
        )
        self.queue_length = queue_length
        self.retry_after_seconds = retry_after_seconds


class UpstreamFailed(GatewayError):
    """The engine refused the connection, broke off, or answered what is no answer."""

    code = "upstream_failed"


class UpstreamUnavailable(GatewayError):
    """The engine failed again and again, and is left alone until it is tried next."""

    code = "upstream_unavailable"

    def __init__(self, *, retry_after_seconds: float) -> None:
        super().__init__("The model keeps failing and is not asked at the moment.")
        self.retry_after_seconds = retry_after_seconds


class UpstreamTimedOut(GatewayError):
    code = "upstream_timed_out"


class UpstreamBusy(GatewayError):
    """The engine takes no more requests at the moment."""

    code = "upstream_busy"
    retry_after_seconds = 1.0

    def __init__(self) -> None:
        super().__init__("The model has no free capacity at the moment. Try again in a second.")


def _money(micros: int) -> str:
    """In the currency's major unit, which is the account's and needs no name."""
    whole, rest = divmod(abs(micros), 1_000_000)
    cents = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if micros < 0 else ''}{whole}.{cents}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
