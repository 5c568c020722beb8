"""The base of every refusal that a caller of billing can cause.

Each room defines its own next to the rule that raises it; `headrace_billing.problems` alone knows statuses.
"""


class BillingError(Exception):
    """Refused; `str()` is the message that the caller reads, and `code` never changes once released."""

    code: str


class InvalidRequest(BillingError):
    """The body, a header or a query can't be what the route takes."""

    code = "invalid_request"


class Unauthenticated(BillingError):
    """The bearer token is missing or unknown."""

    code = "unauthenticated"

    def __init__(self) -> None:
        super().__init__("The bearer token is missing, unknown, revoked or expired.")


class Forbidden(BillingError):
    """The caller is known but may not do this."""

    code = "forbidden"


class IpNotAllowed(BillingError):
    """The API key, or its project, may not be used from there."""

    code = "ip_not_allowed"

    def __init__(self, address: object) -> None:
        seen = "an address that could not be told" if address is None else str(address)
        super().__init__(f"This API key may not be used from {seen}.")


class ScopeMissing(BillingError):
    """The API key was made for something else."""

    code = "scope_missing"

    def __init__(self, scope: str) -> None:
        super().__init__(
            f"This API key lacks the scope `{scope}`. Use another, or have it added to this one."
        )


class RoleMissing(BillingError):
    """The caller's role does not include it."""

    code = "role_missing"

    def __init__(self, role: str, permission: str) -> None:
        super().__init__(f"The role `{role}` does not include `{permission}`. Ask a member whose role does.")


class NotFound(BillingError):
    """No such object, or not the caller's."""

    code = "not_found"

    def __init__(self, kind: str, key: str) -> None:
        super().__init__(f"There is no {kind} {key!r}.")


class IdempotencyKeyMissing(BillingError):
    """A request that moves money must carry `Idempotency-Key`."""

    code = "idempotency_key_missing"

    def __init__(self) -> None:
        super().__init__(
            "This request moves money: send an Idempotency-Key header, and the same one on a retry."
        )


class IdempotencyConflict(BillingError):
    """An idempotency key was used before for something else."""

    code = "idempotency_conflict"

    def __init__(self, key: str) -> None:
        super().__init__(f"The idempotency key {key!r} was used before with other content.")


class ExpiryInThePast(BillingError):
    """A key or credit that would be dead at birth."""

    code = "expiry_in_the_past"

    def __init__(self) -> None:
        super().__init__("expires_at is not in the future.")
