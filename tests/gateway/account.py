"""An account as billing pushes it to Valkey, and builders of what the gateway's tests ask with it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import msgspec
import redis

from headrace_contracts import channels
from headrace_contracts.access import (
    KeyRecord,
    KeyStatus,
    Limit,
    ModelPrice,
    PriceCard,
    ProjectRecord,
    TaskRecord,
    TaskStatus,
    encode_record,
)
from headrace_contracts.deployments import Deployment
from headrace_contracts.usage import Dialect, Disposition, UsageEvent, decode_event
from headrace_gateway.call import Call, Credentials

MODEL = "glm-test"
# A micro-unit a token whatever it is: amounts and tokens read the same in most tests.
ONE_MICRO = ModelPrice(input_uncached="1", cache_read="1", cache_write="1", output="1")

DEPLOYMENT = Deployment(
    id="deployment_1",
    model=MODEL,
    url="http://127.0.0.1:1",
    engine_model="engine-name",
    revision="r1",
    aliases=["glm-alias"],
    context_tokens=8192,
    prompt_overhead_tokens=0,
)


@dataclass
class Account:
    """One organisation with one project and key; `push` writes what is changed."""

    client: redis.Redis
    secret: str = "hr-" + "a" * 43
    id: str = "1"
    versions: dict[str, int] = field(default_factory=dict)

    def push(self, hash_key: str, record: msgspec.Struct) -> None:
        self.versions[hash_key] = version = self.versions.get(hash_key, 0) + 1
        self.client.hset(hash_key, mapping={"v": version, "r": encode_record(record)})

    def warm(self, epoch: str = "epoch_1") -> None:
        self.client.set(channels.EPOCH, epoch)

    @property
    def key_hash(self) -> str:
        return channels.key(hashlib.sha256(self.secret.encode()).hexdigest())

    @property
    def wallet(self) -> str:
        return channels.wallet(f"wallet_{self.id}")

    def push_key(self, **changes: Any) -> None:
        record = KeyRecord(id=f"key_{self.id}", project=f"project_{self.id}", status=KeyStatus.ACTIVE)
        self.push(self.key_hash, msgspec.structs.replace(record, **changes))

    def push_project(self, **changes: Any) -> None:
        record = ProjectRecord(
            id=f"project_{self.id}",
            org=f"org_{self.id}",
            wallet=f"wallet_{self.id}",
            currency="USD",
            disposition=Disposition.PREPAID,
        )
        self.push(channels.project(record.id), msgspec.structs.replace(record, **changes))

    def push_prices(
        self,
        price: ModelPrice = ONE_MICRO,
        *,
        batch: ModelPrice | None = None,
        price_book: str = "book_1",
        price_list: str = "USD",
    ) -> None:
        card = PriceCard(
            price_book=price_book,
            currency="USD",
            models={MODEL: price},
            batch_models={} if batch is None else {MODEL: batch},
        )
        self.push(channels.prices(price_list), card)

    def push_task(self, task: str = "task_1", **changes: Any) -> None:
        record = TaskRecord(
            id=task, project=f"project_{self.id}", status=TaskStatus.OPEN, cost_guard_micros=1000
        )
        self.push(channels.task(task), msgspec.structs.replace(record, **changes))

    def fund(self, micros: int) -> None:
        self.client.hset(self.wallet, mapping={"bal": micros, "ver": 1})

    def money(self) -> tuple[int, int, int]:
        """Balance, held, pending."""
        amounts: Any = self.client.hmget(self.wallet, ["bal", "held", "pend"])
        balance, held, pending = (int(amount or 0) for amount in amounts)
        return balance, held, pending

    def pending(self) -> dict[str, int]:
        entries: Any = self.client.hgetall(f"{self.wallet}:pending")
        return {request.decode(): int(amount) for request, amount in entries.items()}

    def events(self) -> list[UsageEvent]:
        entries: Any = self.client.xrange(channels.USAGE)
        return [decode_event(fields[channels.USAGE_FIELD.encode()]) for _, fields in entries]


def open_account(client: redis.Redis, *, micros: int = 1_000_000, limits: Sequence[Limit] = ()) -> Account:
    account = Account(client)
    account.push_prices()
    account.push_project()
    account.push_key(limits=list(limits))
    account.fund(micros)
    account.warm()
    return account


def another_account(client: redis.Redis, *, org: str = "org_2") -> Account:
    """Beside the one that stands there already, and of another organisation."""
    other = Account(client, secret="hr-" + "z" * 43, id="2")
    other.push_project(org=org)
    other.push_key()
    other.fund(1_000_000)
    return other


def credentials(account: Account, address: str = "127.0.0.1") -> Credentials:
    return Credentials(account.key_hash, lambda: ip_address(address))


def call(account: Account, **changes: Any) -> Call:
    fields: dict[str, Any] = {
        "credentials": credentials(account),
        "dialect": Dialect.OPENAI_CHAT,
        "model_requested": MODEL,
        "deployment": DEPLOYMENT,
        "prompt_tokens_max": 10,
        "output_tokens_max": 20,
        "streamed": False,
    }
    return Call(**(fields | changes))


def usage(prompt: int, completion: int, *, cached: int = 0) -> bytes:
    return msgspec.json.encode(
        {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
    )


def everything(client: redis.Redis) -> dict[str, bytes]:
    """Every key's whole content, to show that nothing was left behind."""
    found: Any = client.keys("*")
    return {key.decode(): _dump(client, key) for key in sorted(found)}


def _dump(client: redis.Redis, key: bytes) -> bytes:
    content: Any = client.dump(key)
    return bytes(content)
