"""Recovery is told by kind, and apart where no other fault was met."""

from tests.chaos.facts import Befallen, Reply
from tests.chaos.report import recovery_seconds
from tests.chaos.schedule import Kind

SECOND = 1_000_000


def befallen(number: int, kind: Kind, target: str, began: float, lifted: float) -> Befallen:
    return Befallen(
        number=number,
        kind=kind,
        target=target,
        began_at_us=int(began * SECOND),
        lifted_at_us=int(lifted * SECOND),
    )


def reply(sent: float, *, gateway: int = 0, status: int = 200) -> Reply:
    return Reply(
        visit=1,
        gateway=gateway,
        sent_at_us=int(sent * SECOND),
        answered_at_us=int((sent + 0.5) * SECOND),
        status=status,
    )


def test_recovery_ends_with_the_first_admitted_request_that_was_sent_after_the_fault() -> None:
    fault = befallen(1, Kind.VALKEY_KILLED, "valkey", 10, 12)
    replies = [reply(11.9), reply(12.5, status=503), reply(13.0), reply(14.0)]
    assert recovery_seconds([fault], replies)["valkey_killed"]["median"] == 1.5


def test_a_gateways_recovery_is_seen_at_that_gateway() -> None:
    fault = befallen(1, Kind.GATEWAY_KILLED, "gate-b", 10, 12)
    replies = [reply(12.1, gateway=0), reply(14.0, gateway=1)]
    assert recovery_seconds([fault], replies)["gateway_killed"]["most"] == 2.5


def test_faults_that_meet_are_not_told_as_alone() -> None:
    faults = [
        befallen(1, Kind.WORKER_KILLED, "billing-worker", 10, 12),
        befallen(2, Kind.VALKEY_KILLED, "valkey", 12.1, 13),
        befallen(3, Kind.WORKER_KILLED, "billing-worker", 20, 21),
    ]
    told = recovery_seconds(faults, [reply(13.0), reply(21.0)])
    assert (told["worker_killed"]["times"], told["worker_killed"]["alone_times"]) == (2, 1)
    assert told["worker_killed"]["alone_most"] == 0.5
    assert "alone_times" not in told["valkey_killed"]


def test_a_fault_after_which_nothing_was_admitted_has_no_recovery() -> None:
    assert recovery_seconds([befallen(1, Kind.API_KILLED, "billing-api", 1, 2)], [reply(1.5)]) == {}
