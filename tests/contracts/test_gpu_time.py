"""GPU time that was ever sent stays readable, and adds up."""

from pathlib import Path

from headrace_contracts.gpu_time import HOUR_US, decode_gpu_time_event, encode_gpu_time
from headrace_contracts.usage import Grade

GOLDEN = Path(__file__).parent / "golden" / "gpu_time_event_1.json"


def test_an_event_of_the_first_release_is_read_whole() -> None:
    event = decode_gpu_time_event(GOLDEN.read_bytes())
    assert event.grade is Grade.FINAL
    assert event.hour_us % HOUR_US == 0
    assert event.gpu_ms == event.accelerators * ((event.ended_at_us - event.started_at_us) // 1000)


def test_an_event_survives_a_round_trip() -> None:
    event = decode_gpu_time_event(GOLDEN.read_bytes())
    assert decode_gpu_time_event(encode_gpu_time(event)) == event


def test_an_event_of_a_later_release_is_read_in_spite_of_fields_we_do_not_know() -> None:
    later = GOLDEN.read_text().strip()[:-1] + ',"watt_hours":3}'
    assert decode_gpu_time_event(later.encode()).accelerators == 8
