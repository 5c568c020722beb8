"""A limit of one model counts requests by the name that price books have for it: one by any other name would never count.

Every model that can be asked for has a price, and prices are published before that. Billing does not hear what else
a model is called: lists of models, which take those names too, are read by the gateways alone.
"""

from collections.abc import Iterator, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace_billing.accounts.limit_bodies import LimitBody
from headrace_billing.errors import BillingError
from headrace_contracts.access import ANY_MODEL


class ModelUnknown(BillingError):
    """A limit names a model that no price book has."""

    code = "model_unknown"

    def __init__(self, param: str, model: str) -> None:
        super().__init__(
            f"{param}: no price book has a price for {model!r}, so such a limit would count nothing. Name the model as price "
            "books do, by no alias and without a revision; one that is to come gets its price first."
        )
        self.members = {"param": param}


async def require_priced(session: AsyncSession, limits: Sequence[LimitBody], *, plan: bool = False) -> None:
    """Raises `ModelUnknown`. A plan may weigh models that are to come: until they do, nothing is counted otherwise."""
    named = dict(_counted(limits, "entitlements.limits") if plan else _named(limits, "limits"))
    if not named:
        return
    priced = set((await session.execute(SELECT_PRICED, {"models": sorted(set(named.values()))})).scalars())
    for param, model in named.items():
        if model not in priced:
            raise ModelUnknown(param, model)


def _named(limits: Sequence[LimitBody], within: str) -> Iterator[tuple[str, str]]:
    yield from _counted(limits, within)
    for n, limit in enumerate(limits):
        for model in () if limit.window is None else limit.window.weights:
            if model != ANY_MODEL:
                yield f"{within}.{n}.window.weights.{model}", model


def _counted(limits: Sequence[LimitBody], within: str) -> Iterator[tuple[str, str]]:
    for n, limit in enumerate(limits):
        if limit.model is not None:
            yield f"{within}.{n}.model", limit.model


SELECT_PRICED = text("SELECT DISTINCT model FROM price_book_prices WHERE model = ANY(:models)")
