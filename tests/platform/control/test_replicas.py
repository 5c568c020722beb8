"""What Ray's metrics tell of replicas, and what of that the gateways are told."""

from datetime import UTC, datetime, timedelta

import pytest

from headrace_platform.control.replicas import FEWER_AFTER, Seen, after, healthy_in

# As Ray 2.60 writes them, but for what it knows of the machine.
SERIES = (
    'ray_serve_deployment_replica_healthy{{Component="core_worker",Version="2.60.0",WorkerId="737f538d",'
    'application="{application}",deployment="{deployment}",otel_scope_schema_url="",replica="{replica}"}} {value}\n'
)
OTHERS = (
    "# HELP ray_serve_deployment_replica_healthy Tracks healthy replicas.\n"
    'ray_serve_deployment_replica_starts_total{application="engine",deployment="vllm",replica="a"} 9.0\n'
)


def series(replica: str, value: float, *, application: str = "engine", deployment: str = "vllm") -> str:
    return SERIES.format(application=application, deployment=deployment, replica=replica, value=value)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (series("a", 1.0) + series("b", 1.0) + series("c", 0.0), 2),
        (series("a", 0.0), 0),
        # Of all replicas at once, where Ray is set to tell no single ones.
        ('ray_serve_deployment_replica_healthy{application="engine",deployment="vllm"} 3.0\n', 3),
        (series("a", 1.0, deployment="another") + series("b", 1.0, application="another"), None),
        ("", None),
    ],
)
def test_of_our_deployment_those_that_are_healthy_are_counted(text: str, count: int | None) -> None:
    assert healthy_in((OTHERS + text + OTHERS).encode()) == count


BEGAN = datetime(2026, 11, 26, tzinfo=UTC)


def test_more_count_at_once_and_fewer_when_they_have_been_fewer_all_the_while() -> None:
    def later(seconds: float) -> datetime:
        return BEGAN + timedelta(seconds=seconds)

    lasts = FEWER_AFTER.total_seconds()
    seen = after(after(None, 2, BEGAN), 3, later(1))
    assert seen == Seen(later(1), 3)
    fewer = after(seen, 1, later(2))
    assert fewer.count == 3
    assert after(fewer, 3, later(3)) == Seen(later(3), 3)
    assert after(after(fewer, 2, later(3)), 1, later(2 + lasts)).count == 1
    assert after(fewer, 1, later(1.9 + lasts)).count == 3
