"""Invoice arithmetic: rounded once a line, telescoping over closes, and nothing that is lost in between."""

from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_billing.invoicing.amounts import (
    divided_half_away,
    minor_digits,
    minor_of_nanos,
    minor_of_tokens,
    nanos_per_minor,
    plain,
)
from headrace_billing.invoicing.invoice import Invoice, PeriodInvalid, next_period
from headrace_billing.invoicing.lines import (
    AcceptedOutcome,
    Line,
    LineKind,
    outcome_lines,
    token_lines,
)
from headrace_billing.invoicing.parties import Profile, Seller
from headrace_billing.invoicing.postings import post
from headrace_billing.invoicing.tax import Assessment, Treatment
from headrace_billing.invoicing.usage import Counted, Portion, Span, portions
from headrace_billing.ledger.transaction import AccountKind
from headrace_billing.outcomes.outcome import AcceptedAs
from headrace_billing.rating.book import PriceBook, PriceLine, Prices
from headrace_billing.rating.cumulative import Group, Payer
from headrace_billing.rating.price import TokenClass, parse_price
from headrace_billing.rating.schedule import Schedule, charge_nanos, flat
from headrace_contracts.usage import Disposition
from tests.billing.rating.schedules import schedules

T0 = datetime(2026, 11, 1, tzinfo=UTC)
CLASSES = list(TokenClass)


def day(number: int) -> Span:
    return Span(T0 + timedelta(days=number), T0 + timedelta(days=number + 1))


def book(price: int | Schedule) -> dict[str, PriceBook]:
    schedule = flat(price) if isinstance(price, int) else price
    return {"pb_1": PriceBook("pb_1", "USD", {"glm": Prices(dict.fromkeys(TokenClass, schedule))})}


def taken_by(used: list[Counted], invoiced: list[Portion], books: dict[str, PriceBook]) -> list[Portion]:
    """Of a month whose account is not closed."""
    return portions(used, invoiced, books, closed=(), period=day(0))


def group(
    token_class: TokenClass = TokenClass.OUTPUT, disposition: Disposition = Disposition.PREPAID
) -> Group:
    return Group(
        Payer(date(2026, 11, 1), "org", "prj", "wal", "USD", disposition),
        "pb_1",
        "glm",
        PriceLine(token_class),
    )


def invoice(*lines: Line, currency: str = "USD") -> Invoice:
    return Invoice(
        id="inv_1",
        number="HR-000001",
        seller=Seller("default", "Headrace", "", "", "", "HR"),
        organization="org",
        buyer=Profile(seller="default", legal_name="Millrace"),
        currency=currency,
        period=day(0),
        issued_at=T0,
        lines=lines,
        tax=Assessment(Treatment.UNTAXED, "", Decimal(0), "", 0, 0),
    )


def line(amount_minor: int, exact_nanos: int, *, prepaid: bool = True) -> Line:
    return Line(
        kind=LineKind.TOKENS, quantity=1, amount_minor=amount_minor, exact_nanos=exact_nanos, prepaid=prepaid
    )


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**20))
def test_division_rounds_to_the_nearest_and_halves_away_from_zero(numerator: int, denominator: int) -> None:
    result = divided_half_away(numerator, denominator)
    assert 2 * abs(result * denominator - numerator) <= denominator
    assert divided_half_away(-numerator, denominator) == -result


def test_a_half_goes_away_from_zero() -> None:
    assert [divided_half_away(n, 2) for n in (1, 3, -1, -3, 0)] == [1, 2, -1, -2, 0]


@pytest.mark.parametrize(
    ("currency", "digits", "shown"), [("USD", 2, "-12.34"), ("JPY", 0, "-1234"), ("KWD", 3, "-1.234")]
)
def test_minor_units_are_the_currencys(currency: str, digits: int, shown: str) -> None:
    assert minor_digits(currency) == digits
    assert plain(-1234, currency) == shown
    assert nanos_per_minor(currency) == 10 ** (9 - digits)


@given(
    tokens=st.integers(-(10**12), 10**12),
    price=st.decimals(0, 10**6, places=12),
    currency=st.sampled_from(["USD", "JPY", "KWD"]),
)
def test_a_line_is_rounded_once_from_the_exact_product(tokens: int, price: Decimal, currency: str) -> None:

    with localcontext(prec=60):
        exact = tokens * price / 1_000_000
        expected = exact.quantize(Decimal(1).scaleb(-minor_digits(currency)), ROUND_HALF_UP)
        assert (
            Decimal(plain(minor_of_tokens(tokens, parse_price(f"{price:f}"), currency), currency)) == expected
        )


def test_rounding_twice_would_be_wrong() -> None:
    # 0.00499999999967 USD is below half a cent, though its nano-units are 0.005 exactly.
    price = parse_price("0.499999999967")
    assert minor_of_nanos(charge_nanos(10_000, flat(price)), "USD") == 1
    assert minor_of_tokens(10_000, price, "USD") == 0


@given(
    schedule=schedules(),
    closes=st.lists(
        st.dictionaries(
            st.tuples(st.integers(0, 4), st.sampled_from(CLASSES)), st.integers(0, 10**7), max_size=6
        ),
        min_size=1,
        max_size=5,
    ),
    open_for=st.integers(0, 5),
)
def test_whatever_comes_late_all_invoices_together_take_exactly_what_was_posted(
    schedule: Schedule, closes: list[dict[tuple[int, TokenClass], int]], open_for: int
) -> None:
    """Each close finds the counts as they are then: grown, shrunk or gone since the one before.

    And at one of them the month's account is found closed.
    """
    books, taken, closed = book(schedule), list[Portion](), set[Group]()
    for number, counts in enumerate(closes):
        if number >= open_for:
            closed = {group(kind) for kind in TokenClass}
        used = [Counted(group(kind), day(at), tokens) for (at, kind), tokens in counts.items()]
        taken += portions(used, taken, books, closed=closed, period=day(4))
    final: dict[TokenClass, int] = dict.fromkeys(TokenClass, 0)
    for (_, kind), tokens in closes[-1].items():
        final[kind] += tokens
    assert sum(p.nanos for p in taken) == sum(
        charge_nanos(tokens, schedule, closed=bool(closed)) for tokens in final.values()
    )
    for kind, tokens in final.items():
        assert sum(p.tokens for p in taken if p.group.line.token_class is kind) == tokens
    assert portions(used, taken, books, closed=closed, period=day(4)) == []


def test_usage_of_an_earlier_period_is_an_adjustment_that_names_it() -> None:
    books = book(parse_price("90"))
    first = taken_by([Counted(group(), day(0), 1000)], [], books)
    second = taken_by([Counted(group(), day(0), 1500), Counted(group(), day(1), 200)], first, books)
    lines = token_lines(second, period=day(1), currency="USD", books=books)
    assert [(li.kind, li.quantity, li.span) for li in lines] == [
        (LineKind.TOKENS, 200, None),
        (LineKind.ADJUSTMENT, 500, day(0)),
    ]


def test_a_correction_downwards_is_a_negative_adjustment() -> None:
    books = book(parse_price("90"))
    first = taken_by([Counted(group(), day(0), 1_000_000)], [], books)
    second = taken_by([Counted(group(), day(0), 900_000)], first, books)
    (adjusted,) = token_lines(second, period=day(1), currency="USD", books=books)
    assert (adjusted.quantity, adjusted.amount_minor, adjusted.exact_nanos) == (-100_000, -900, -9 * 10**9)


def test_prepaid_and_paid_afterwards_have_lines_of_their_own() -> None:
    books = book(parse_price("90"))
    both = [Counted(group(disposition=d), day(0), 1_000_000) for d in (Disposition.PAYG, Disposition.PREPAID)]
    lines = token_lines(taken_by(both, [], books), period=day(0), currency="USD", books=books)
    assert [li.prepaid for li in lines] == [False, True]
    made = invoice(*lines)
    assert (made.total_minor, made.applied_minor, made.due_minor) == (18_000, 9_000, 9_000)


def test_outcomes_confirmed_and_deemed_stand_apart() -> None:
    def outcome(number: int, accepted_as: AcceptedAs) -> AcceptedOutcome:
        return AcceptedOutcome(f"o{number}", "ot", "answer@1", 250_000_000, accepted_as, prepaid=True)

    lines = outcome_lines(
        [outcome(1, AcceptedAs.CONFIRMED), outcome(2, AcceptedAs.DEEMED), outcome(3, AcceptedAs.CONFIRMED)],
        currency="USD",
    )
    assert [(li.accepted_as, li.quantity, li.amount_minor) for li in lines] == [
        (AcceptedAs.CONFIRMED, 2, 50),
        (AcceptedAs.DEEMED, 1, 25),
    ]


amounts = st.tuples(st.integers(0, 10**6), st.integers(-4_999_999, 5_000_000), st.booleans())


@given(st.lists(amounts, max_size=8))
def test_postings_clear_exactly_what_was_used_and_leave_exactly_what_is_due(
    drawn: list[tuple[int, int, bool]],
) -> None:
    made = invoice(*(line(minor, minor * 10**7 + off, prepaid=prepaid) for minor, off, prepaid in drawn))
    sums = dict.fromkeys(AccountKind, 0)
    for transaction in post(made):
        for posting in transaction.postings:
            sums[posting.account.kind] += posting.amount_nanos
    assert sums[AccountKind.UNBILLED] == -made.exact_nanos
    assert sums[AccountKind.WALLET_APPLIED] == made.applied_nanos
    assert sums[AccountKind.RECEIVABLE] == made.due_minor * 10**7
    if all(prepaid for _, _, prepaid in drawn):
        assert sums[AccountKind.RECEIVABLE] == 0
        assert sums[AccountKind.ROUNDING] == 0


def test_rounding_beyond_half_a_cent_a_line_is_a_bug_not_a_posting() -> None:
    with pytest.raises(AssertionError, match="inv_1"):
        post(invoice(line(1, 2 * 10**7)))


NOON = T0 + timedelta(hours=12)


def test_the_first_period_begins_with_the_organisation_and_the_next_where_the_last_ended() -> None:
    assert next_period(start=None, end=NOON, last_end=None, since=T0, now=NOON) == Span(T0, NOON)
    later = NOON + timedelta(hours=1)
    assert next_period(start=None, end=later, last_end=NOON, since=T0, now=later) == Span(NOON, later)
    assert next_period(start=NOON, end=later, last_end=NOON, since=T0, now=later) == Span(NOON, later)


@pytest.mark.parametrize(
    "period",
    [
        {"start": T0, "end": NOON, "last_end": NOON - timedelta(hours=1)},
        {"start": T0 + timedelta(hours=1), "end": NOON, "last_end": None},
        {"start": None, "end": NOON, "last_end": NOON},
        {"start": None, "end": NOON + timedelta(seconds=1), "last_end": None},
    ],
    ids=["overlap", "gap", "empty", "future"],
)
def test_periods_without_order_are_refused(period: dict[str, datetime | None]) -> None:
    with pytest.raises(PeriodInvalid):
        next_period(**period, since=T0, now=NOON)  # type: ignore[arg-type]
