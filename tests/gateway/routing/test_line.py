"""One line, round by round: what a gateway does with what Valkey tells of the slots."""

import asyncio
from collections.abc import Sequence

import pytest

from headrace_gateway.http.exchange import ClientGone
from headrace_gateway.limits.slots import Entry
from headrace_gateway.limits.turns import Standing, Waiting
from headrace_gateway.routing.line import Waiter
from headrace_gateway.routing.lines import Lines, QueueBounds
from tests.gateway.routing.crowd import slotted

ONE = slotted(1)
BOUNDS = QueueBounds(wait_seconds=60, requests_max=8, org_requests_max=8)


class OneFree:
    """Slots of which one is free. Whoever is to hang up does so while Valkey is asked."""

    gateway = "gateway0"

    def __init__(self) -> None:
        self.hanging_up: list[Waiter] = []

    async def waiting(self, deployment: str, entries: Sequence[Entry]) -> Standing:
        for waiter in self.hanging_up:
            waiter.fail(ClientGone())
        waiting = [
            Waiting(self.gateway, rank, org, weight, count, -age) for rank, org, weight, count, age in entries
        ]
        return Standing(running=0, mean_us=1, clock_us=0, waiting=waiting)


@pytest.mark.parametrize("whose", ["org_1", "org_2"])
async def test_who_hangs_up_as_its_turn_comes_breaks_the_line_for_nobody(whose: str) -> None:
    slots = OneFree()
    lines = Lines(slots, BOUNDS, newest=lambda deployment: deployment)
    hasty = Waiter([ONE], rank=0, org="org_1", weight=1)
    patient = Waiter([ONE], rank=0, org=whose, weight=1)
    await lines.enter(hasty)
    await lines.enter(patient)
    slots.hanging_up.append(hasty)
    await asyncio.wait((hasty.turn,))
    with pytest.raises(ClientGone):
        hasty.take_turn()
    lines.leave(hasty)
    async with asyncio.timeout(30):
        line = await patient.turn
    assert line is patient.take_turn()
    line.tried()
    assert lines.waiting == 0
