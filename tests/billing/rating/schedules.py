"""Prices of every kind, as a property may meet them."""

from hypothesis import strategies as st

from headrace_billing.rating.schedule import Schedule, ScheduleKind, Tier, checked

PACKAGE_SIZES = (1, 1000, 1024, 250_000, 1_000_000)
nanos = st.integers(1, 10**13)
rates = st.integers(0, 10**15)


@st.composite
def schedules(draw: st.DrawFn, *, price: st.SearchStrategy[int] = rates) -> Schedule:
    kind = draw(st.sampled_from(ScheduleKind))
    tiers: tuple[Tier, ...] = (Tier(None, draw(price)),)
    if kind in (ScheduleKind.GRADUATED, ScheduleKind.VOLUME):
        borders = sorted(draw(st.sets(st.integers(1, 3 * 10**6), max_size=4)))
        tiered = [draw(price) for _ in range(len(borders) + 1)]
        if kind is ScheduleKind.VOLUME:
            tiered.sort(reverse=True)
        tiers = tuple(Tier(up_to, each) for up_to, each in zip([*borders, None], tiered, strict=True))
    size = draw(st.sampled_from(PACKAGE_SIZES)) if kind is ScheduleKind.PACKAGE else None
    if size is not None:
        # A price that is exact for 1,000,000 tokens, whatever the size.
        tiers = (Tier(None, draw(price) // 10**6 * size),)
    low, high = sorted((draw(nanos), draw(nanos)))
    return checked(
        Schedule(
            kind,
            tiers,
            size,
            draw(st.sampled_from([None, low])),
            draw(st.sampled_from([None, high])),
        )
    )
