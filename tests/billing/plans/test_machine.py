"""Whatever is done to a subscription in whatever order, the books say what a model of a dozen lines says."""

from calendar import monthrange
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tests.billing.plans.subscriber import Subscriber
from tests.billing.seller import Document

PRICE, SEAT = 1800, 1000


@dataclass
class Model:
    """Of one subscription: what it is, and what it has been charged in all."""

    anchor: datetime
    seats: int = 1
    state: str = "active"
    planned: tuple[str, int] | None = None
    number: int = 0
    total: int = 0
    periods: int = 0

    def __post_init__(self) -> None:
        self.begin(self.anchor)

    def edge(self, number: int) -> datetime:
        months = self.anchor.year * 12 + self.anchor.month - 1 + number
        year, month = divmod(months, 12)
        return self.anchor.replace(
            year=year, month=month + 1, day=min(self.anchor.day, monthrange(year, month + 1)[1])
        )

    @property
    def price(self) -> int:
        return PRICE + SEAT * (self.seats - 1)

    def left(self, amount: int, now: datetime) -> int:
        """Of what is charged for the present period; what has passed is rounded, and the rest is left."""
        start, end = self.edge(self.number), self.edge(self.number + 1)
        passed = Fraction(amount * int((now - start).total_seconds()), int((end - start).total_seconds()))
        return amount - int(passed + Fraction(1, 2))

    def rest(self, now: datetime) -> int:
        """Item by item, as each is a line."""
        return self.left(PRICE, now) + self.left(SEAT * (self.seats - 1), now)

    def begin(self, at: datetime) -> None:
        self.anchor, self.number, self.state = at, 0, "active"
        self.total += self.price
        self.periods += 1

    def pass_time(self, now: datetime) -> None:
        while self.state == "active" and now >= self.edge(self.number + 1):
            what, seats = self.planned or ("renew", self.seats)
            self.planned = None
            if what == "cancel":
                self.state = "cancelled"
            elif what == "pause":
                self.state = "paused"
            else:
                self.seats = seats
                self.number += 1
                self.total += self.price
                self.periods += 1

    def do(self, what: str, seats: int, now: datetime, *, back: bool) -> bool:
        """Whether it may be done."""
        if what == "resume":
            if self.state != "paused":
                return False
            self.begin(now)
        elif what == "undo":
            if self.planned is None:
                return False
            self.planned = None
        elif self.state != "active" and (what != "cancel_now" or self.state == "cancelled"):
            return False
        elif what == "seats_now":
            if seats == self.seats and self.planned is None:
                return False
            self.total -= self.left(SEAT * (self.seats - 1), now)
            self.seats = seats
            self.total += self.left(SEAT * (self.seats - 1), now)
            if self.planned is not None and self.planned[0] == "change":
                self.planned = None
        elif what == "seats_later":
            if seats == self.seats and self.planned is None:
                return False
            self.planned = ("change", seats)
        elif what in ("cancel_now", "pause_now"):
            self.total -= self.rest(now) if back and self.state == "active" else 0
            self.state = "cancelled" if what == "cancel_now" else "paused"
            self.planned = None
        else:
            self.planned = (what.removesuffix("_later"), self.seats)
        return True


def request(what: str, seats: int, *, back: bool) -> tuple[str, Document]:
    verb, _, when = what.partition("_")
    if verb == "seats":
        return "change", {"seats": seats, "when": "now" if when == "now" else "period_end"}
    if verb in ("resume", "undo"):
        return verb, {}
    return verb, {
        "when": "now" if when == "now" else "period_end",
        "give_rest_back": back and when == "now",
    }


WHATS = (
    "seats_now",
    "seats_later",
    "pause_now",
    "pause_later",
    "cancel_now",
    "cancel_later",
    "resume",
    "undo",
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from((*WHATS, "seats_now", "resume", "undo")),
        st.integers(1, 9),
        st.booleans(),
        st.integers(0, 45 * 86400),
        st.booleans(),
    ),
    min_size=3,
    max_size=10,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_a_subscription_is_charged_what_the_model_says(
    subscriber: Subscriber, steps: list[tuple[str, int, bool, int, bool]]
) -> None:
    shop = subscriber.shop
    shop.customer = await subscriber.seller.customer(credit=None)
    standing = await subscriber.subscribe()
    model = Model(shop.clock.now)
    for number, (what, seats, back, seconds, late) in enumerate(steps):
        shop.clock.passes(seconds=seconds)
        model.pass_time(shop.clock.now)
        if not late:
            await subscriber.work()
        standing = await _ask(
            subscriber, model, standing, (what, seats, back), key=f"{shop.customer.org}{number}"
        )
        assert (standing["state"], standing["seats"]) == (model.state, model.seats)
        assert await _charged(subscriber, standing) == model.total
    shop.clock.passes(days=70)
    model.pass_time(shop.clock.now)
    await subscriber.work()
    standing = await subscriber.shown(standing)
    assert (standing["state"], await _charged(subscriber, standing)) == (model.state, model.total)
    begun = [step for step in standing["steps"] if step["event"] in ("started", "renewed", "resumed")]
    assert len(begun) == model.periods
    shop.clock.passes(days=45)
    await subscriber.recognise()
    await subscriber.sound()


async def _ask(
    subscriber: Subscriber, model: Model, standing: Document, wish: tuple[str, int, bool], *, key: str
) -> Document:
    """Twice with the same key, as somebody does who lost the answer."""
    what, seats, back = wish
    verb, body = request(what, seats, back=back)
    path = f"/v1/subscriptions/{standing['id']}/{verb}"
    # Who asks has read what time has done, if the worker has done it.
    standing = await subscriber.shown(standing)
    answers: list[Any] = []
    for _ in range(2):
        headers = {"if-match": str(standing["version"]), "idempotency-key": key}
        answer = await subscriber.seller.ask("POST", path, body, **headers)
        if answer.status_code == 412:
            # The worker was late: the request is refused, and what time has done is seen by whoever reads again.
            await subscriber.work()
            standing = await subscriber.shown(standing)
            continue
        answers.append(answer)
    if not answers:
        headers = {"if-match": str(standing["version"]), "idempotency-key": key}
        answers = [await subscriber.seller.ask("POST", path, body, **headers)]
    may = model.do(what, seats, subscriber.shop.clock.now, back=body.get("give_rest_back", False))
    assert {answer.is_success for answer in answers} == {may}, answers[0].text
    if may:
        assert all(answer.json() == answers[0].json() for answer in answers)
    return await subscriber.shown(standing)


async def _charged(subscriber: Subscriber, standing: Document) -> int:
    # What came before the steps that are shown is none of these subscriptions'.
    async with subscriber.shop.database.begin() as session:
        found = await session.execute(
            text("SELECT coalesce(sum(amount_nanos), 0) FROM charges WHERE reference LIKE :references"),
            {"references": f"{standing['id']}.%"},
        )
        return int(found.scalar_one()) // 10_000_000
