"""Records reach billing, whatever billing does meanwhile."""

from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import msgspec
import pytest

from headrace_contracts.engine import EngineEnding
from headrace_platform.serving import shipping
from headrace_platform.serving.shipping import Billing, Shipper, Undelivered
from headrace_platform.serving.spool import Segment, Spool, segments
from tests.platform.serving.records import ATTEMPT, record
from tests.support.engine_records import TOKEN, EngineRecords, receiving
from tests.support.patience import wait_until


@pytest.fixture
def billing() -> Iterator[EngineRecords]:
    with receiving() as records:
        yield records


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "records", "r1")


def shipper_to(billing: EngineRecords, spool: Spool, token: str = TOKEN) -> Shipper:
    return Shipper(spool, Billing(billing.url, token))


def append(spool: Spool, *attempts: str) -> None:
    for attempt in attempts:
        assert spool.append(msgspec.json.encode(record(attempt)))


def test_what_is_appended_arrives_by_itself(billing: EngineRecords, spool: Spool) -> None:
    shipper = shipper_to(billing, spool)
    shipper.start()
    for ending in (EngineEnding.STARTED, EngineEnding.FINISHED):
        spool.append(msgspec.json.encode(record(ending=ending)))
        shipper.notice()
    wait_until(lambda: billing.ended(ATTEMPT))
    shipper.stop()
    assert billing.records() == {ATTEMPT: record()}


def test_what_arrived_is_not_sent_again(billing: EngineRecords, spool: Spool) -> None:
    append(spool, "a", "b")
    shipper = shipper_to(billing, spool)
    shipper.ship()
    append(spool, "c")
    shipper.ship()
    shipper.ship()
    assert billing.batches == [2, 1]


def test_many_records_go_in_bounded_batches(
    billing: EngineRecords, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "BATCH_RECORDS_MAX", 10)
    append(spool, *(str(number) for number in range(25)))
    shipper_to(billing, spool).ship()
    assert billing.batches == [10, 10, 5]


@pytest.mark.parametrize(
    "answer",
    [
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.MOVED_PERMANENTLY,
    ],
)
def test_records_wait_while_billing_does_not_take_them(
    billing: EngineRecords, spool: Spool, answer: HTTPStatus
) -> None:
    append(spool, "a")
    billing.away = answer
    shipper = shipper_to(billing, spool)
    with pytest.raises(Undelivered, match=str(int(answer))):
        shipper.ship()
    billing.away = None
    shipper.ship()
    assert set(billing.records()) == {"a"}


def test_records_wait_while_billing_is_not_there(spool: Spool, unused_port: Callable[[], int]) -> None:
    append(spool, "a")
    # None that the system gives to whoever calls out meanwhile.
    with receiving(unused_port()) as billing:
        shipper = shipper_to(billing, spool)
    with pytest.raises(Undelivered):
        shipper.ship()
    with receiving(billing.port) as back:
        shipper.ship()
        assert set(back.records()) == {"a"}


def test_a_wrong_token_loses_nothing(billing: EngineRecords, spool: Spool) -> None:
    append(spool, "a")
    with pytest.raises(Undelivered, match="401"):
        shipper_to(billing, spool, token="another-token-than-billings").ship()
    shipper_to(billing, spool).ship()
    assert set(billing.records()) == {"a"}


def test_shipping_goes_on_by_itself_when_billing_is_back(billing: EngineRecords, spool: Spool) -> None:
    billing.away = HTTPStatus.SERVICE_UNAVAILABLE
    shipper = shipper_to(billing, spool)
    shipper.start()
    append(spool, "a")
    shipper.notice()
    wait_until(lambda: billing.turned_away)
    billing.away = None
    wait_until(lambda: "a" in billing.records())
    shipper.stop()


def test_one_bad_record_does_not_hold_up_the_others(billing: EngineRecords, spool: Spool) -> None:
    append(spool, "a", "bad", "c", "d")
    spool.append(b'{"not": "a record"}')
    append(spool, "e")
    billing.refused = {"bad"}
    shipper_to(billing, spool).ship()
    assert set(billing.records()) == {"a", "c", "d", "e"}
    aside = (spool.folder / shipping.REFUSED_FILE).read_bytes().splitlines()
    assert len(aside) == 2
    assert any(b'"bad"' in line for line in aside)
    assert b'{"not": "a record"}' in aside


def test_a_dead_replica_s_records_are_shipped_by_another_and_its_files_go(
    billing: EngineRecords, tmp_path: Path
) -> None:
    dead = Spool(tmp_path, "dead", segment_bytes_max=100)
    append(dead, "a", "b", "c")
    assert len(segments(tmp_path)) == 3
    dead.close()
    living = Spool(tmp_path, "living")
    append(living, "d")
    shipper_to(billing, living).ship()
    assert set(billing.records()) == {"a", "b", "c", "d"}
    assert [segment.path for segment in segments(tmp_path)] == [living.current]
    assert not list(tmp_path.glob("dead*"))


def test_a_living_neighbour_s_records_are_left_to_it(billing: EngineRecords, tmp_path: Path) -> None:
    neighbour = Spool(tmp_path, "neighbour")
    append(neighbour, "a")
    shipper_to(billing, Spool(tmp_path, "r1")).ship()
    assert billing.records() == {}
    assert neighbour.current.exists()


def test_a_full_segment_is_deleted_once_billing_has_it(billing: EngineRecords, tmp_path: Path) -> None:
    spool = Spool(tmp_path, "r1", segment_bytes_max=100)
    append(spool, "a", "b")
    shipper_to(billing, spool).ship()
    assert [segment.path for segment in segments(tmp_path)] == [spool.current]
    assert set(billing.records()) == {"a", "b"}


def test_a_segment_that_billing_does_not_have_yet_is_kept(billing: EngineRecords, tmp_path: Path) -> None:
    dead = Spool(tmp_path, "dead")
    append(dead, "a")
    dead.close()
    billing.away = HTTPStatus.SERVICE_UNAVAILABLE
    with pytest.raises(Undelivered):
        shipper_to(billing, Spool(tmp_path, "living")).ship()
    assert Segment(dead.current).acknowledged == 0
    assert dead.current.exists()


def test_a_clean_stop_ships_the_last_records(billing: EngineRecords, spool: Spool) -> None:
    shipper = shipper_to(billing, spool)
    shipper.start()
    append(spool, "last")
    shipper.stop()
    assert set(billing.records()) == {"last"}


def test_a_record_that_was_cut_in_two_is_dropped_with_its_replica(
    billing: EngineRecords, tmp_path: Path
) -> None:
    dead = Spool(tmp_path, "dead")
    append(dead, "a")
    with dead.current.open("ab") as file:
        file.write(b'{"replica":')
    dead.close()
    shipper_to(billing, Spool(tmp_path, "living")).ship()
    assert set(billing.records()) == {"a"}
    assert not dead.current.exists()
