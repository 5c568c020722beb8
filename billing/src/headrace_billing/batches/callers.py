"""Who has files and batches: the project of an API key that may ask models."""

from typing import Annotated

from fastapi import Depends, Request

from headrace_billing.batches.bounds import BatchBounds
from headrace_billing.bearers import Customer, caller_of
from headrace_billing.errors import BillingError, Forbidden
from headrace_billing.parts import PartsOf
from headrace_contracts.access import KeyScope


class BatchesOff(BillingError):
    """This installation serves no batches."""

    code = "batches_off"

    def __init__(self) -> None:
        super().__init__("This installation serves no batches: its operator has not told it of a gateway.")


async def _owner(request: Request, parts: PartsOf) -> Customer:
    caller = await caller_of(request, parts)
    if not isinstance(caller, Customer):
        raise Forbidden("Files and batches belong to an API key's project: use an API key.")
    caller.require(KeyScope.INFERENCE)
    return caller


def _bounds(parts: PartsOf) -> BatchBounds:
    if parts.batches is None:
        raise BatchesOff
    return parts.batches


OwnerOf = Annotated[Customer, Depends(_owner)]

BoundsOf = Annotated[BatchBounds, Depends(_bounds)]
"""For routes that begin something; what was begun is shown whether or not more is."""
