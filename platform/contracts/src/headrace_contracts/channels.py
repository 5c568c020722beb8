"""Every Valkey key that both the gateways and billing touch. Who writes what:

| key | type | written by | read by |
|---|---|---|---|
| `EPOCH` | string | billing, last, when a cold Valkey has been loaded | every script: absent means cold |
| `OPENING` | string | billing, when counters and balances are loaded, until the epoch is there | extend, register: what runs may take back its holds |
| `key(hash)`, `project(id)`, `task(id)`, `prices(list)` | hash `v`, `r` | billing's outbox | gateways |
| `wallet(id)` | hash `bal`, `ver` (billing's push), `held`, `pend` (gateways' scripts) | both | admit, extend |
| `pending(wallet)` | hash request id → micro-units | settle and reap; billing removes posted ids | push, sweep |
| `USAGE` | stream, field `e` = a `UsageEvent` as JSON | settle, reap | billing |
| `ACKNOWLEDGED` | hash `<producer>:<boot>` → sequence | billing | gateways |
| `GATEWAYS` | sorted set, gateway → last heartbeat in ms | heartbeat | billing at a cold start |
| `counter(...)` | see `counters` | settle, admit; of budgets and windows billing, at a cold start and before a limit begins | admit, extend; billing, to show what is left |

Leases and gauges are the gateways' own and stand in `headrace_gateway.limits`.
Amounts are integer micro-units of the wallet's currency: balances rounded down, holds and pending up.
"""

EPOCH = "hr:epoch"
OPENING = "hr:opening"
USAGE = "hr:usage"
USAGE_FIELD = "e"
ACKNOWLEDGED = "hr:acknowledged"
GATEWAYS = "hr:gateways"

STREAM_ENTRIES_MAX = 200_000
"""Admission sheds at 80 % of this: the stream is never trimmed by length, only below what is committed."""


def key(secret_sha256_hex: str) -> str:
    return f"hr:key:{secret_sha256_hex}"


def project(project_id: str) -> str:
    return f"hr:project:{project_id}"


def task(task_id: str) -> str:
    return f"hr:task:{task_id}"


def prices(price_list: str) -> str:
    """`price_list` is a currency, or `price_list(...)` of an organisation whose prices are its own."""
    return f"hr:prices:{price_list}"


def price_list(currency: str, org: str) -> str:
    return f"{currency}:{org}"


def wallet(wallet_id: str) -> str:
    return f"hr:wallet:{wallet_id}"


def pending(wallet_id: str) -> str:
    return f"hr:wallet:{wallet_id}:pending"


def journal(producer: str, boot: str) -> str:
    """The field of `ACKNOWLEDGED` for one journal."""
    return f"{producer}:{boot}"


def counter(name: str, scope: str, scope_id: str) -> str:
    """What a limit counts in; `counters` names it and says what follows for a window."""
    return f"hr:limit:{name}:{scope}:{scope_id}"
