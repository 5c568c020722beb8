"""Which limits a request must pass: a pure reading of its records.

A limit goes to the scripts as (kind, counter key, ceiling, weight). Money kinds (`spend_total`, `wallet`)
have weight 0 here: they weigh the hold.
"""

from collections.abc import Sequence

from headrace_contracts import channels
from headrace_contracts.access import KeyRecord, Limit, LimitKind, ProjectRecord, TaskRecord
from headrace_contracts.usage import Disposition
from headrace_gateway.errors import BudgetExhausted, InsufficientBalance, LimitReached
from headrace_gateway.limits import keys

WALLET = "wallet"

CheckedLimit = tuple[str, str, int, int]

# A bucket's level is its count times 60,000 and must stay below 2^53 (scripts/prelude.lua).
CEILING_MAX = 10**11

# After Valkey was lost: what flows takes its place and its money again, while rates may forget.
FORGOTTEN_ON_REGISTER = frozenset({LimitKind.REQUESTS_PER_MINUTE.value, LimitKind.TOKENS_PER_MINUTE.value})


def limits_of(
    key: KeyRecord,
    project: ProjectRecord,
    task: TaskRecord | None,
    *,
    disposition: Disposition,
    prompt_tokens_max: int,
) -> list[CheckedLimit]:
    bundled = disposition is Disposition.OUTCOME_BUNDLED
    checked: list[CheckedLimit] = []
    for scope, scope_id, limits in (("key", key.id, key.limits), ("project", project.id, project.limits)):
        for kind, ceiling in _tightest(limits):
            if kind is LimitKind.SPEND_TOTAL:
                # A bundled request costs its project nothing: the outcome does. Its task guards the cost.
                if not bundled:
                    checked.append((kind.value, keys.counter(kind, scope, scope_id), ceiling, 0))
            else:
                assert ceiling <= CEILING_MAX, (scope_id, kind, ceiling)
                weight = prompt_tokens_max if kind is LimitKind.TOKENS_PER_MINUTE else 1
                checked.append((kind.value, keys.counter(kind, scope, scope_id), ceiling, weight))
    if bundled:
        assert task is not None
        guard = keys.counter(LimitKind.SPEND_TOTAL, "task", task.id)
        checked.append((LimitKind.SPEND_TOTAL.value, guard, task.cost_guard_micros, 0))
    elif disposition is Disposition.PREPAID:
        checked.append((WALLET, channels.wallet(project.wallet), 0, 0))
    return checked


def _tightest(limits: Sequence[Limit]) -> list[tuple[LimitKind, int]]:
    """Two limits of one kind and scope would share a counter: the lower ceiling is the one that holds."""
    ceilings: dict[LimitKind, int] = {}
    for limit in limits:
        ceilings[limit.kind] = min(limit.ceiling, ceilings.get(limit.kind, limit.ceiling))
    return list(ceilings.items())


def to_register(limits: Sequence[CheckedLimit]) -> list[CheckedLimit]:
    """The limits of a lease that is put back into an emptied Valkey."""
    return [limit for limit in limits if limit[0] not in FORGOTTEN_ON_REGISTER]


def refusal(
    limit: CheckedLimit, *, used: int, ceiling: int, weight: int, retry_after_seconds: float | None
) -> LimitReached:
    kind, counter = limit[0], limit[1]
    error: type[LimitReached]
    if kind == WALLET:
        error, scope = InsufficientBalance, f"wallet {counter.removeprefix(channels.wallet(''))}"
    else:
        error = BudgetExhausted if kind == LimitKind.SPEND_TOTAL.value else LimitReached
        scope = " ".join(counter.split(":", 4)[3:])
    return error(
        limit=kind,
        scope=scope,
        used=used,
        ceiling=ceiling,
        weight=weight,
        retry_after_seconds=retry_after_seconds,
    )
