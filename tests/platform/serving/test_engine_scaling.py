"""Replicas follow the number of requests that run."""

import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.platform.serving.chat import chat
from tests.support.engine import Engine, running_engine
from tests.support.patience import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.slow_engine, pytest.mark.timeout(600)]

CLIENTS = 8
# A second replica imports what the first one did, beside it on the same cores.
UP_SECONDS_MAX = 240
DOWN_SECONDS_MAX = 90


@pytest.fixture
def elastic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    settings = {
        "MIN_REPLICAS": "1",
        "MAX_REPLICAS": "2",
        "TARGET_ONGOING": "2",
        "UPSCALE_DELAY_SECONDS": "1",
        "DOWNSCALE_DELAY_SECONDS": "5",
    }
    with running_engine(tmp_path_factory.mktemp("elastic"), settings) as engine:
        yield engine


def test_a_second_replica_comes_with_the_load_and_goes_with_it_and_no_request_fails(elastic: Engine) -> None:
    statuses: Counter[int] = Counter()
    enough = threading.Event()

    def client() -> None:
        while not enough.is_set():
            status, _ = chat(elastic, "Tell me a story", max_tokens=100, min_tokens=100, ignore_eos=True)
            statuses[status] += 1

    def serving() -> set[str]:
        return {record.replica for record in elastic.billing.records().values()}

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in clients:
        thread.start()
    try:
        wait_until(lambda: len(serving()) == 2, seconds=UP_SECONDS_MAX)
    finally:
        enough.set()
        for thread in clients:
            thread.join()

    began = time.monotonic()
    wait_until(lambda: len(elastic.replicas()) == 1, seconds=DOWN_SECONDS_MAX)
    assert chat(elastic, "What is 1+1?", max_tokens=4)[0] == 200
    assert set(statuses) == {200}, statuses
    assert time.monotonic() - began < DOWN_SECONDS_MAX
