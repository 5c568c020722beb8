"""Which limits a request must pass: a pure reading of its records.

A limit goes to the scripts as (kind, counter key, ceiling, weight), and with a fifth member where its tokens weigh
otherwise than one each or it has a window: (uncached, cached, output, request, window's milliseconds, anchor, 1 where what
runs stops with it).
Money kinds (budgets, `wallet`) have weight 0 here: they weigh the hold.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec

from headrace_contracts import channels, counters
from headrace_contracts.access import (
    BUDGETS,
    KeyRecord,
    Limit,
    LimitKind,
    ProjectRecord,
    TaskRecord,
    Window,
    WindowShape,
    WindowUnit,
)
from headrace_contracts.counters import NANOS, RATE_CEILING_MAX, Weights
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

# By an outcome, whose task guards the cost, or by a plan, whose windows do.
PAID_OTHERWISE = frozenset({Disposition.OUTCOME_BUNDLED, Disposition.PLAN_WINDOW})

# After Valkey was lost: what flows takes its place and its money again, while rates may forget.
FORGOTTEN_ON_REGISTER = frozenset(
    {LimitKind.REQUESTS_PER_MINUTE.value, LimitKind.TOKENS_PER_MINUTE.value}
    | {kind.value for kind in CLASS_WEIGHTS}
)


Checked = CheckedLimit | Callable[[int, int], CheckedLimit]
"""How a limit is checked: as it stands, or by the most tokens that the prompt has and the time in µs."""


class Planned(msgspec.Struct, frozen=True):
    """The limits of whoever asks for one model with one key, read from the records once."""

    checked: Sequence[Checked]

    def limits(self, *, prompt_tokens_max: int, at_us: int) -> list[CheckedLimit]:
        """As one request is checked by them."""
        return [each if type(each) is tuple else each(prompt_tokens_max, at_us) for each in self.checked]  # type: ignore[operator]


def planned(
    key: KeyRecord,
    project: ProjectRecord,
    task: TaskRecord | None,
    *,
    disposition: Disposition,
    model: str,
    again: bool = False,
) -> Planned:
    """`again`: it counts as a request already, and is not counted as another one."""
    bundled = disposition is Disposition.OUTCOME_BUNDLED
    checked: list[Checked] = []
    for scope, scope_id, limits in (
        ("org", project.org, project.org_limits),
        ("project", project.id, project.limits),
        ("key", key.id, key.limits),
    ):
        for name, limit in _tightest(limits):
            if limit.model is not None and limit.model != model:
                continue
            if again and _counts_requests(limit):
                continue
            if limit.pays and disposition is not Disposition.PLAN_WINDOW:
                continue
            if disposition in PAID_OTHERWISE and limit.kind in BUDGETS:
                # The request itself costs its project nothing: the outcome does, or the plan has done.
                continue
            checked.append(_checked(limit, channels.counter(name, scope, scope_id), model))
    if bundled:
        assert task is not None
        guard = channels.counter(LimitKind.SPEND_TOTAL.value, "task", task.id)
        checked.append((LimitKind.SPEND_TOTAL.value, guard, task.cost_guard_micros, 0))
    elif disposition is Disposition.PREPAID:
        checked.append((WALLET, channels.wallet(project.wallet), 0, 0))
    elif disposition is Disposition.COMMITMENT:
        kind = COMMITMENT_THEN_OVERAGE if project.overage else COMMITMENT
        checked.append((kind, channels.wallet(project.wallet), 0, 0))
    return Planned(checked)


def _counts_requests(limit: Limit) -> bool:
    window = limit.window
    by_window = window is not None and window.unit is WindowUnit.REQUESTS
    return by_window or limit.kind is LimitKind.REQUESTS_PER_MINUTE


def _checked(limit: Limit, counter: str, model: str) -> Checked:
    kind, ceiling = limit.kind.value, limit.ceiling
    if limit.kind in BUDGETS:
        return (kind, counter, ceiling, 0)
    if limit.window is not None:
        return _windowed(limit, limit.window, counter, model)
    assert limit.kind is not LimitKind.WINDOW, counter
    assert ceiling <= RATE_CEILING_MAX, (counter, ceiling)
    weights = CLASS_WEIGHTS.get(limit.kind)
    if limit.kind not in WEIGHED_BY_PROMPT:
        return (kind, counter, ceiling, 1) if weights is None else (kind, counter, ceiling, 0, weights)
    if weights is None:
        return lambda prompt_tokens_max, _at_us: (kind, counter, ceiling, prompt_tokens_max)
    return lambda prompt_tokens_max, _at_us: (kind, counter, ceiling, prompt_tokens_max, weights)


def _windowed(limit: Limit, window: Window, counter: str, model: str) -> Checked:
    kind, ceiling = f"{window.shape}_window", limit.ceiling
    sliding = window.shape is WindowShape.SLIDING
    size_ms = counters.slice_ms(window) if sliding else window.seconds * 1000
    anchor_ms = window.anchor_us // 1000
    stop = (1,) if limit.stop else ()
    if window.unit is WindowUnit.REQUESTS:
        return (kind, counter, ceiling, 1, (0, 0, 0, 1, size_ms, anchor_ms))

    def weighed(prompt_tokens_max: int, weights: Weights) -> CheckedLimit:
        uncached, cached, output = weights
        weight = -(-prompt_tokens_max * max(uncached, cached) // NANOS)
        return (kind, counter, ceiling, weight, (uncached, cached, output, 0, size_ms, anchor_ms, *stop))

    if window.rates:
        # The gateway's clock is near enough to say in which hour a rate holds; the window itself goes by Valkey's.
        return lambda prompt_tokens_max, at_us: weighed(
            prompt_tokens_max, counters.token_weights(window, model=model, at=_at(at_us))
        )
    always = counters.token_weights(window, model=model, at=_at(0))
    return lambda prompt_tokens_max, _at_us: weighed(prompt_tokens_max, always)


def _at(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / 1_000_000, UTC)


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
    if ceiling <= 0:
        retry_after_seconds = None  # nothing ever passes
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
