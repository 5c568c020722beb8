"""Records are read once a version, dropped when told, and never held beyond their bound."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis
from msgspec.structs import replace

from headrace_contracts import channels
from headrace_contracts.access import KeyRecord, KeyStatus, ProjectRecord, TaskRecord, TaskStatus
from headrace_contracts.usage import Disposition
from headrace_gateway.errors import (
    KeyExpired,
    KeyRevoked,
    LimitsRebuilding,
    LimitsUnavailable,
    TaskNotOpen,
    Unauthenticated,
)
from headrace_gateway.keys import authorisation
from headrace_gateway.keys.directory import Directory, key_of
from headrace_gateway.valkey.connection import Valkey
from tests.gateway.account import Account
from tests.gateway.conftest import VALKEY_TIMEOUT_SECONDS

KEY = KeyRecord(id="k", project="p", status=KeyStatus.ACTIVE)
PROJECT = ProjectRecord(id="p", org="o", wallet="w", currency="USD", disposition=Disposition.PREPAID)
TASK = TaskRecord(id="t", project="p", status=TaskStatus.OPEN, cost_guard_micros=1)


@pytest.fixture
async def valkey(valkey_url: str) -> AsyncIterator[Valkey]:
    opened = Valkey(valkey_url, timeout_seconds=VALKEY_TIMEOUT_SECONDS)
    await opened.start()
    yield opened
    await opened.close()


def reads(client: redis.Redis) -> int:
    found: Any = client.info("commandstats")
    return int(found.get("cmdstat_hmget", {"calls": 0})["calls"])


async def test_a_known_account_costs_no_call(account: Account, valkey: Valkey) -> None:
    directory = Directory(valkey)
    standing = await directory.standing(key_of(account.secret), None)
    before = reads(account.client)
    assert await directory.standing(key_of(account.secret), None) == standing
    assert reads(account.client) == before
    account.push_key(models=["other"])
    assert (await directory.standing(key_of(account.secret), None)).key.record.models is None
    anew = await directory.standing(key_of(account.secret), None, stale=[account.key_hash])
    assert (anew.key.version, anew.key.record.models) == ("2", ["other"])
    assert reads(account.client) == before + 1


async def test_a_project_with_prices_of_its_own_is_held_to_them_and_to_no_others(
    account: Account, valkey: Valkey
) -> None:
    directory = Directory(valkey)
    before = await directory.standing(key_of(account.secret), None)
    own = channels.price_list("USD", "org_1")
    account.push_prices(price_book="book_own", price_list=own)
    account.push_project(price_list=own)
    after = await directory.standing(key_of(account.secret), None, stale=[before.project.hash_key])
    assert [standing.prices.record.price_book for standing in (before, after)] == ["book_1", "book_own"]
    assert channels.prices(own) in {record.hash_key for record in after.records}


async def test_no_more_is_kept_than_the_bound(account: Account, valkey: Valkey) -> None:
    directory = Directory(valkey, entries_max=5)
    for number in range(20):
        stranger = Account(account.client, secret=f"hr-{number}")
        stranger.push_key()
        await directory.standing(key_of(stranger.secret), None)
    assert len(directory._entries) == 5
    assert not any("hr-1" in name for name in directory._entries)


async def test_missing_records_tell_cold_from_unknown_from_incomplete(
    account: Account, valkey: Valkey
) -> None:
    directory = Directory(valkey)
    with pytest.raises(Unauthenticated):
        await directory.standing(key_of("hr-unknown"), None)
    account.client.delete(channels.prices("USD"))
    with pytest.raises(LimitsUnavailable):
        await directory.standing(key_of(account.secret), None)
    account.client.delete(channels.EPOCH)
    with pytest.raises(LimitsRebuilding):
        await directory.standing(key_of("hr-unknown"), None)


def test_a_key_must_be_active_in_an_active_project_and_not_expired() -> None:
    authorisation.check_key(KEY, PROJECT, now_us=10)
    authorisation.check_key(replace(KEY, expires_at_us=11), PROJECT, now_us=10)
    with pytest.raises(KeyExpired):
        authorisation.check_key(replace(KEY, expires_at_us=10), PROJECT, now_us=10)
    with pytest.raises(KeyRevoked):
        authorisation.check_key(replace(KEY, status=KeyStatus.REVOKED), PROJECT, now_us=10)
    with pytest.raises(KeyRevoked):
        authorisation.check_key(KEY, replace(PROJECT, status=KeyStatus.REVOKED), now_us=10)


def test_only_an_open_task_of_the_keys_own_project_pays() -> None:
    authorisation.check_task(TASK, PROJECT)
    for task in (None, replace(TASK, project="other"), replace(TASK, status=TaskStatus.CLOSED)):
        with pytest.raises(TaskNotOpen):
            authorisation.check_task(task, PROJECT)
    assert authorisation.disposition(PROJECT, TASK) is Disposition.OUTCOME_BUNDLED
    assert authorisation.disposition(PROJECT, None) is Disposition.PREPAID
