"""What the engine's process takes from its environment, and what it refuses."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from headrace_platform.serving.settings import EngineSettings

SECRET = "a-token-that-is-long-enough"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.setenv("HEADRACE_ENGINE_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("HEADRACE_ENGINE_RECORDS_URL", "http://127.0.0.1:8081/internal/v1/engine-records")
    monkeypatch.setenv("HEADRACE_ENGINE_INGEST_TOKEN", SECRET)
    return monkeypatch


def test_it_listens_on_loopback_unless_told_otherwise(environment: pytest.MonkeyPatch) -> None:
    assert EngineSettings.from_environment().host == "127.0.0.1"


@pytest.mark.parametrize("needed", ["STATE_DIR", "RECORDS_URL", "INGEST_TOKEN"])
def test_nothing_stands_in_for_what_is_missing(environment: pytest.MonkeyPatch, needed: str) -> None:
    environment.delenv(f"HEADRACE_ENGINE_{needed}")
    with pytest.raises(ValidationError, match=needed.lower()):
        EngineSettings.from_environment()


def test_a_refusal_does_not_repeat_the_secret(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HEADRACE_ENGINE_INGEST_TOKEN", "short-secret")
    with pytest.raises(ValidationError) as refusal:
        EngineSettings.from_environment()
    assert "short-secret" not in str(refusal.value)


def test_the_secret_is_not_printed_with_the_settings(environment: pytest.MonkeyPatch) -> None:
    assert SECRET not in repr(EngineSettings.from_environment())


def test_a_range_that_is_none_is_refused(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HEADRACE_ENGINE_MIN_REPLICAS", "2")
    with pytest.raises(ValidationError, match="below min_replicas"):
        EngineSettings.from_environment()
