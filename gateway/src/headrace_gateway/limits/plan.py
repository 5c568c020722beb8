"""Which limits a request must pass: a pure reading of its records.

A limit goes to the scripts as (kind, counter key, ceiling, weight), and with a fifth member where its tokens weigh
otherwise than one each or it has a window: (uncached, cached, output, request, window's milliseconds, anchor).
Money kinds (budgets, `wallet`) have weight 0 here: they weigh the hold.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from headrace_contracts import channels, counters
from headrace_contracts.access import (
    BUDGETS,
    KeyRecord,
    Limit,
    LimitKind,
    ProjectRecord,
    TaskRecord,
    WindowShape,
    WindowUnit,
)
from headrace_contracts.counters import NANOS, RATE_CEILING_MAX
from headrace_contracts.usage import Disposition
from headrace_gateway.errors import BudgetExhausted, CommitmentUsedUp, InsufficientBalance, LimitReached
from headrace_gateway.limits.state import CheckedLimit, LimitState

WALLET = "wallet"
COMMITMENT = "commitment"
COMMITMENT_THEN_OVERAGE = "commitment_then_overage"
"""As long as there is anything left a request may begin, and one that runs goes on."""

# What a token of each class takes from the bucket of a class, in thousandths.
CLASS_WEIGHTS = {
    LimitKind.INPUT_TOKENS_PER_MINUTE: (NANOS, 0, 0, 0, 0, 0),
    LimitKind.CACHED_TOKENS_PER_MINUTE: (0, NANOS, 0, 0, 0, 0),
    LimitKind.OUTPUT_TOKENS_PER_MINUTE: (0, 0, NANOS, 0, 0, 0),
}

# Until a request ends, its prompt is all that is known of it.
WEIGHED_BY_PROMPT = frozenset({LimitKind.TOKENS_PER_MINUTE, LimitKind.INPUT_TOKENS_PER_MINUTE})

# After Valkey was lost: what flows takes its place and its money again, while rates may forget.
FORGOTTEN_ON_REGISTER = frozenset(
    {LimitKind.REQUESTS_PER_MINUTE.value, LimitKind.TOKENS_PER_MINUTE.value}
    | {kind.value for kind in CLASS_WEIGHTS}
)


def limits_of(
    key: KeyRecord,
    project: ProjectRecord,
    task: TaskRecord | None,
    *,
    disposition: Disposition,
    prompt_tokens_max: int,
    model: str,
    at_us: int,
    again: bool = False,
) -> list[CheckedLimit]:
    """`again`: it counts as a request already, and is not counted as another one."""
    bundled = disposition is Disposition.OUTCOME_BUNDLED
    checked: list[CheckedLimit] = []
    for scope, scope_id, limits in (
        ("org", project.org, project.org_limits),
        ("project", project.id, project.limits),
        ("key", key.id, key.limits),
    ):
        for limit, counter, always in _counted(scope, scope_id, limits):
            if limit.model is not None and limit.model != model:
                continue
            if again and _counts_requests(limit):
                continue
            if bundled and limit.kind in BUDGETS:
                # A bundled request costs its project nothing: the outcome does. Its task guards the cost.
                continue
            checked.append(always or _checked(limit, counter, prompt_tokens_max, model, at_us))
    if bundled:
        assert task is not None
        guard = channels.counter(LimitKind.SPEND_TOTAL.value, "task", task.id)
        checked.append((LimitKind.SPEND_TOTAL.value, guard, task.cost_guard_micros, 0))
    elif disposition is Disposition.PREPAID:
        checked.append((WALLET, channels.wallet(project.wallet), 0, 0))
    elif disposition is Disposition.COMMITMENT:
        kind = COMMITMENT_THEN_OVERAGE if project.overage else COMMITMENT
        checked.append((kind, channels.wallet(project.wallet), 0, 0))
    return checked


def _counts_requests(limit: Limit) -> bool:
    window = limit.window
    by_window = window is not None and window.unit is WindowUnit.REQUESTS
    return by_window or limit.kind is LimitKind.REQUESTS_PER_MINUTE


Counted = tuple[Limit, str, CheckedLimit | None]
"""A limit, the key of its counter, and how it is checked where the request has no say in that."""

_known: dict[tuple[str, str], tuple[Sequence[Limit], Sequence[Counted]]] = {}

KNOWN_MAX = 10_000
"""Scopes whose limits stay read, some hundred bytes each: all of a busy gateway's keys."""


def _counted(scope: str, scope_id: str, limits: Sequence[Limit]) -> Sequence[Counted]:
    """Read once for each record; a changed one comes with another list. Projects of one organisation bring equal ones."""
    known = _known.get((scope, scope_id))
    if known is not None and (known[0] is limits or known[0] == limits):
        return known[1]
    counted: list[Counted] = []
    for name, limit in _tightest(limits):
        counter = channels.counter(name, scope, scope_id)
        counted.append((limit, counter, _always(limit, counter)))
    if len(_known) >= KNOWN_MAX:
        _known.clear()
    _known[scope, scope_id] = (limits, counted)
    return counted


def _always(limit: Limit, counter: str) -> CheckedLimit | None:
    if limit.kind in BUDGETS:
        return (limit.kind.value, counter, limit.ceiling, 0)
    if limit.window is not None or limit.kind in WEIGHED_BY_PROMPT:
        return None
    return _checked(limit, counter, 0, "", 0)


def _checked(limit: Limit, counter: str, prompt_tokens_max: int, model: str, at_us: int) -> CheckedLimit:
    kind, window = limit.kind, limit.window
    if window is not None:
        return _windowed(limit, counter, prompt_tokens_max, model, at_us)
    assert kind is not LimitKind.WINDOW, counter
    assert limit.ceiling <= RATE_CEILING_MAX, (counter, limit.ceiling)
    if kind in CLASS_WEIGHTS:
        weight = prompt_tokens_max if kind in WEIGHED_BY_PROMPT else 0
        return (kind.value, counter, limit.ceiling, weight, CLASS_WEIGHTS[kind])
    return (kind.value, counter, limit.ceiling, prompt_tokens_max if kind in WEIGHED_BY_PROMPT else 1)


def _windowed(limit: Limit, counter: str, prompt_tokens_max: int, model: str, at_us: int) -> CheckedLimit:
    window = limit.window
    assert window is not None, counter
    # The gateway's clock is near enough to say in which hour a rate holds; the window itself goes by Valkey's.
    at = datetime.fromtimestamp(at_us / 1_000_000, UTC)
    uncached, cached, output = counters.token_weights(window, model=model, at=at)
    request = 1 if window.unit is WindowUnit.REQUESTS else 0
    weight = request or -(-prompt_tokens_max * max(uncached, cached) // NANOS)
    sliding = window.shape is WindowShape.SLIDING
    size_ms = counters.slice_ms(window) if sliding else window.seconds * 1000
    return (
        f"{window.shape}_window",
        counter,
        limit.ceiling,
        weight,
        (uncached, cached, output, request, size_ms, window.anchor_us // 1000),
    )


def _tightest(limits: Sequence[Limit]) -> list[tuple[str, Limit]]:
    """Two limits of one name and scope would share a counter: the lower ceiling is the one that holds."""
    found: dict[str, Limit] = {}
    for limit in limits:
        name = counters.name_of(limit)
        if name not in found or limit.ceiling < found[name].ceiling:
            found[name] = limit
    return list(found.items())


def to_register(limits: Sequence[CheckedLimit]) -> list[CheckedLimit]:
    """The limits of a lease that is put back into an emptied Valkey."""
    return [limit for limit in limits if limit[0] not in FORGOTTEN_ON_REGISTER]


def guards_money(limits: Sequence[CheckedLimit]) -> bool:
    """Whether somebody set a bound to what may be spent: a wallet, a commitment that stops, or a budget."""
    return any(kind in (WALLET, COMMITMENT) or kind in BUDGETS for kind, *_ in limits)


def refusal(
    limit: CheckedLimit,
    *,
    used: int,
    ceiling: int,
    weight: int,
    retry_after_seconds: float | None,
    states: Sequence[LimitState] = (),
) -> LimitReached:
    """`states`: of every limit of the request that has one, to be told with the refusal."""
    kind, counter = limit[0], limit[1]
    error: type[LimitReached]
    if kind == WALLET:
        error, name, scope = (
            InsufficientBalance,
            WALLET,
            f"wallet {counter.removeprefix(channels.wallet(''))}",
        )
    elif kind == COMMITMENT:
        error, name, scope = (
            CommitmentUsedUp,
            COMMITMENT,
            f"wallet {counter.removeprefix(channels.wallet(''))}",
        )
    else:
        error = BudgetExhausted if kind in BUDGETS else LimitReached
        name, *scoped = counter.split(":", 4)[2:]
        scope = " ".join(scoped)
    return error(
        limit=name,
        scope=scope,
        used=used,
        ceiling=ceiling,
        weight=weight,
        retry_after_seconds=retry_after_seconds,
        # What has no state of its own, money and concurrency, begins anew when it may be asked again, or never.
        resets_in_seconds=next(
            (state.full_in_seconds for state in states if state.limit is limit), retry_after_seconds
        ),
        states=states,
    )
