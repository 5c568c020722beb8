"""The slots of a deployment: as a limit of the requests that it runs, and as what the requests that wait are told by.

What must stay true: a slot is taken and given back with the lease, by the same scripts as everything else, so that
there are never more than so many and none is lost with a gateway; who waits holds nothing.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from headrace_contracts.deployments import Deployment
from headrace_gateway.limits.state import CheckedLimit
from headrace_gateway.limits.turns import Standing, Waiting

SLOTS = "slots"

STANDS_MS = 500
"""For so long the others keep its turns for a gateway that stopped asking; a few of `routing.line`'s rounds."""

Entry = tuple[int, str, int, int, int]
"""Rank, organisation, weight, how many wait, how many ms the first of them has."""

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Entry]).decode


def slots_limit(deployment: Deployment, *, org: str, weight: int, has_turn: bool) -> CheckedLimit:
    """To stand last of a request's limits."""
    assert deployment.slots is not None, deployment.id
    return (SLOTS, f"hr:slots:{deployment.id}", deployment.slots, 1, (weight, int(has_turn), org))


def report(deployment: str, gateway: str, entries: Sequence[Entry]) -> tuple[str | bytes | int, ...]:
    """As waiting.lua takes it."""
    return deployment, gateway, STANDS_MS, _pack(entries)


def standing_of(reply: list[Any]) -> Standing:
    running, mean_us, clock_us, gateways, tags = reply
    waiting = []
    for gateway, lapses_ms, packed in zip(gateways[::3], gateways[1::3], gateways[2::3], strict=True):
        for rank, org, weight, count, age_ms in _unpack(packed):
            waiting.append(Waiting(gateway.decode(), rank, org, weight, count, lapses_ms - age_ms))
    return Standing(
        running=running,
        mean_us=mean_us,
        clock_us=clock_us,
        waiting=waiting,
        tags_us={org.decode(): tag for org, tag in zip(tags[::2], tags[1::2], strict=True)},
    )
