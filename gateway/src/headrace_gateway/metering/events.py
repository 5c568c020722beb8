"""A usage event as JSON fragments, because three write it: the gateway, its successor after a crash, and the
reaper inside Valkey, which can only join text. A whole event is

    { identity , counts , ending }

`identity` is fixed at admission (it begins with the id), `counts` changes while the request runs.
"""

import msgspec

from headrace_contracts.usage import Dialect, Disposition, Ending, Grade, ServiceTier, TokenCounts

ID_LENGTH = 36
IDENTITY_START = b'"id":"'

_encode = msgspec.json.Encoder().encode


class Fixed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The part of a `UsageEvent` that follows from records and deployment alone, under the same names."""

    org: str
    project: str
    key: str
    wallet: str
    currency: str
    deployment: str
    model_requested: str
    model_served: str
    dialect: Dialect
    price_book: str
    disposition: Disposition
    revision: str
    witnessed: bool = True


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part that the client tells of each request, if it does."""

    session: str | None = None
    task: str | None = None
    task_attempt: str | None = None
    end_user: str | None = None
    trace: str | None = None
    service_tier: ServiceTier = ServiceTier.STANDARD


def fixed_fragment(fixed: Fixed) -> bytes:
    return _encode(fixed)[1:-1]


def with_told(fixed: bytes, told: Told) -> bytes:
    fields = _encode(told)[1:-1]
    return b"%b,%b" % (fixed, fields) if fields else fixed


def identity_fragment(request_id: str, time_us: int, fixed: bytes) -> bytes:
    """The same bytes that admit.lua writes into the lease."""
    return b'"id":"%b","received_at_us":%d,%b' % (request_id.encode(), time_us, fixed)


def id_of(identity: bytes) -> str:
    assert identity.startswith(IDENTITY_START), identity[:60]
    return identity[len(IDENTITY_START) : len(IDENTITY_START) + ID_LENGTH].decode()


def id_of_event(event: bytes) -> str:
    return id_of(event[1:])


class _Served(msgspec.Struct, frozen=True):
    revision: str = ""


_decode_served = msgspec.json.Decoder(_Served).decode


def revision_of(identity: bytes) -> str:
    """Of the model that served it."""
    return _decode_served(b"{%b}" % identity).revision


def counts_fragment(
    *, attempts: int, first_token_at_us: int | None, tokens: TokenCounts, engine_usage: bytes | None
) -> bytes:
    """`engine_usage` must be JSON: only what `read_counts` understood may stand here."""
    first = b"null" if first_token_at_us is None else b"%d" % first_token_at_us
    return (
        b'"attempts":%d,"first_token_at_us":%b,"tokens":{"input_uncached":%d,"cache_read":%d,"cache_write":%d,'
        b'"output_visible":%d,"reasoning":%d},"engine_usage":%b'
    ) % (
        attempts,
        first,
        tokens.input_uncached,
        tokens.cache_read,
        tokens.cache_write,
        tokens.output_visible,
        tokens.reasoning,
        engine_usage or b"null",
    )


def final_event(
    *, identity: bytes, counts: bytes, journal: bytes, sequence: int, finished_at_us: int, ending: Ending
) -> bytes:
    return b'{%b,%b,"grade":%d,%b,"sequence":%d,"finished_at_us":%d,"ending":"%b"}' % (
        identity,
        counts,
        Grade.FINAL,
        journal,
        sequence,
        finished_at_us,
        ending.value.encode(),
    )


def journal_fragment(producer: str, boot: str) -> bytes:
    return b'"producer":%b,"boot":%b' % (_encode(producer), _encode(boot))
