"""What will happen in a run: which visits clients pay and which faults befall the parts, all of it from one seed.

What must stay true: the same seed, length and form give the same plan, whatever happens while it is carried out.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from headrace_contracts.usage import Dialect

GATEWAYS = ("gate-a", "gate-b")
VISITS_EACH_SECOND = 16.0
TOP_UPS_EACH_SECOND = 1 / 15
# Faults begin when traffic flows, and the last one is over before it ends.
FIRST_FAULT_SECONDS = 4.0
LAST_FAULT_SECONDS = 12.0
OVERLAPPING_SHARE = 0.35
KEYED_SHARE = 0.3
SHORT_TOKENS_MAX = 60
LASTING_EACH_SECONDS = 0.1


class Role(StrEnum):
    """Customers, each with what its name says."""

    AMPLE = "ample"  # prepaid, with more than it can use
    CREDIT = "credit"  # pays afterwards
    THIN = "thin"  # prepaid, always close to empty
    PACED = "paced"  # so many requests a minute
    NARROW = "narrow"  # so many at once
    CAPPED = "capped"  # a budget
    WINDOWED = "windowed"  # a plan's window
    REVOKED = "revoked"  # its keys are revoked, one after the other


class Trouble(StrEnum):
    """What the engine does wrong."""

    BREAKS = "breaks"
    SAYS_ERROR = "says_error"
    BUSY = "busy"
    RESETS = "resets"
    HANGS = "hangs"


class Kind(StrEnum):
    GATEWAY_KILLED = "gateway_killed"
    GATEWAY_STOPPED = "gateway_stopped"
    GATEWAY_RESTARTED = "gateway_restarted"
    ROLLING_DEPLOY = "rolling_deploy"
    VALKEY_KILLED = "valkey_killed"
    VALKEY_STOPPED = "valkey_stopped"
    VALKEY_RESTARTED = "valkey_restarted"
    VALKEY_ERASED = "valkey_erased"
    VALKEY_SLOW = "valkey_slow"
    VALKEY_FULL = "valkey_full"
    WORKER_KILLED = "worker_killed"
    WORKER_STOPPED = "worker_stopped"
    WORKER_RESTARTED = "worker_restarted"
    API_KILLED = "api_killed"
    API_STOPPED = "api_stopped"
    API_RESTARTED = "api_restarted"
    POSTGRES_KILLED = "postgres_killed"
    POSTGRES_STOPPED = "postgres_stopped"
    POSTGRES_RESTARTED = "postgres_restarted"
    DISK_FULL = "disk_full"
    KEY_REVOKED = "key_revoked"


@dataclass(frozen=True, slots=True)
class Visit:
    """One client and its request."""

    number: int
    at_seconds: float
    role: Role
    key: int
    """Which of its role's keys."""
    gateway: int
    dialect: Dialect
    streamed: bool
    tools: bool
    tokens: int
    """What the engine will say."""
    bounded: bool
    """Whether the client asks for no more than that."""
    each_seconds: float
    """The engine's pace."""
    hang_up_after: int | None
    """Frames, after which the client is gone; 0 is before the first."""
    slow_reader: bool
    retries: int
    trouble: Trouble | None
    has_key: bool
    """Sends an `Idempotency-Key`, and so may try again after whatever happened, a hang-up of its own too."""
    asks_twice: bool
    """At both gateways at once, with the same key."""


@dataclass(frozen=True, slots=True)
class Fault:
    number: int
    at_seconds: float
    kind: Kind
    gateway: int
    """For those that befall one."""
    lasts_seconds: float
    delay_seconds: float = 0.0
    """Of a slow Valkey: what everything to it is late by."""

    @property
    def ends_seconds(self) -> float:
        return self.at_seconds + self.lasts_seconds


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    seconds: float
    visits: Sequence[Visit]
    faults: Sequence[Fault]
    top_ups_seconds: Sequence[float]
    """When the thin wallet gets some more."""
    revoked_keys: int


SHORT = (
    (Kind.GATEWAY_KILLED, 0.5),
    (Kind.WORKER_KILLED, 0.5),
    (Kind.VALKEY_SLOW, 2.5),
    (Kind.GATEWAY_STOPPED, 6.0),  # longer than a lease
    (Kind.KEY_REVOKED, 0.0),
    (Kind.POSTGRES_KILLED, 0.5),
    (Kind.VALKEY_ERASED, 0.0),
    (Kind.API_KILLED, 0.5),
)
"""The main kinds and how long each lasts."""
SHORT_DELAY_SECONDS = 3.0

# (shortest, longest); what takes its time by itself is done when it is done.
LASTS_SECONDS = {
    Kind.GATEWAY_KILLED: (0.0, 3.0),
    Kind.GATEWAY_STOPPED: (1.0, 12.0),
    Kind.VALKEY_KILLED: (0.0, 4.0),
    Kind.VALKEY_STOPPED: (0.5, 8.0),
    Kind.VALKEY_ERASED: (0.0, 2.0),
    Kind.VALKEY_SLOW: (4.0, 12.0),
    Kind.VALKEY_FULL: (3.0, 12.0),
    Kind.WORKER_KILLED: (0.0, 6.0),
    Kind.WORKER_STOPPED: (1.0, 8.0),
    Kind.API_KILLED: (0.0, 6.0),
    Kind.API_STOPPED: (1.0, 8.0),
    Kind.POSTGRES_KILLED: (0.0, 4.0),
    Kind.POSTGRES_STOPPED: (1.0, 8.0),
    Kind.DISK_FULL: (3.0, 10.0),
}
DELAYS_SECONDS = (0.05, 0.5, 1.5, 3.0, 8.0, 20.0)


def plan(seed: int, seconds: float, *, short: bool = False) -> Plan:
    """`short`: one fault of each main kind, one after the other; else all of them, as often as there is time."""
    dice = random.Random(f"faults {seed}")
    faults = list(_short_faults(dice) if short else _faults(dice, seconds))
    revoked = max(1, sum(fault.kind is Kind.KEY_REVOKED for fault in faults))
    visits = list(_visits(random.Random(f"visits {seed}"), seconds, revoked_keys=revoked))
    every = 1 / TOP_UPS_EACH_SECOND
    top_ups = [every * number for number in range(1, int(seconds / every) + 1)]
    return Plan(seed, seconds, visits, faults, top_ups, revoked)


def _short_faults(dice: random.Random) -> Iterator[Fault]:
    at = FIRST_FAULT_SECONDS
    for number, (kind, lasts) in enumerate(SHORT, start=1):
        delay = SHORT_DELAY_SECONDS if kind is Kind.VALKEY_SLOW else 0.0
        yield Fault(number, at, kind, dice.randrange(len(GATEWAYS)), lasts, delay)
        at += lasts + 1.2


def _faults(dice: random.Random, seconds: float) -> Iterator[Fault]:
    at = FIRST_FAULT_SECONDS
    for number, kind in enumerate(_shuffled(dice), start=1):
        low, high = LASTS_SECONDS.get(kind, (0.0, 0.0))
        lasts = dice.uniform(low, high)
        delay = dice.choice(DELAYS_SECONDS) if kind is Kind.VALKEY_SLOW else 0.0
        fault = Fault(number, at, kind, dice.randrange(len(GATEWAYS)), lasts, delay)
        if fault.ends_seconds > seconds - LAST_FAULT_SECONDS:
            return
        yield fault
        overlaps = dice.random() < OVERLAPPING_SHARE
        at += dice.uniform(0.2, lasts + 0.2) if overlaps else lasts + dice.uniform(1.0, 3.5)


def _shuffled(dice: random.Random) -> Iterator[Kind]:
    """Each kind once, then each once more, and so on."""
    while True:
        yield from dice.sample(list(Kind), len(Kind))


def _visits(dice: random.Random, seconds: float, *, revoked_keys: int) -> Iterator[Visit]:
    roles = [Role.AMPLE] * 6 + [Role.CREDIT] * 3 + [Role.THIN] * 4
    roles += [Role.PACED, Role.NARROW, Role.CAPPED, Role.WINDOWED, Role.REVOKED] * 2
    at, number = 0.0, 0
    while True:
        at += dice.expovariate(VISITS_EACH_SECOND)
        number += 1
        if at >= seconds:
            return
        tokens, each_seconds = _answer(dice, seconds - at)
        streamed, has_key = dice.random() < 0.75, dice.random() < KEYED_SHARE
        yield Visit(
            number=number,
            at_seconds=at,
            role=dice.choice(roles),
            key=dice.randrange(revoked_keys),
            gateway=dice.randrange(len(GATEWAYS)),
            dialect=dice.choice((Dialect.OPENAI_CHAT, Dialect.OPENAI_CHAT, *MORE_DIALECTS)),
            streamed=streamed,
            tools=dice.random() < 0.2,
            tokens=tokens,
            bounded=dice.random() < 0.5,
            each_seconds=each_seconds,
            hang_up_after=dice.randint(0, tokens + 3) if dice.random() < 0.2 else None,
            slow_reader=tokens <= SHORT_TOKENS_MAX and dice.random() < 0.06,
            retries=dice.choice((3, 4, 5)) if has_key else dice.choice((0, 1, 2)),
            trouble=dice.choice(list(Trouble)) if dice.random() < 0.04 else None,
            has_key=has_key,
            asks_twice=has_key and dice.random() < 0.4,
        )


def _answer(dice: random.Random, left_seconds: float) -> tuple[int, float]:
    """Tokens and their pace. Most are short; some need several slices, and some outlive the faults that they meet."""
    sort, lasting = dice.random(), dice.randint(100, 300)
    if sort < 0.06:
        return dice.randint(300, 900), 0.005
    if sort < 0.08 and lasting * LASTING_EACH_SECONDS < left_seconds:
        return lasting, LASTING_EACH_SECONDS
    return dice.randint(1, SHORT_TOKENS_MAX), dice.choice((0.0, 0.01, 0.03, 0.08))


MORE_DIALECTS = (Dialect.OPENAI_COMPLETIONS, Dialect.ANTHROPIC_MESSAGES)
