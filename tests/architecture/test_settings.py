"""Every setting can be told by the environment, and what is more than a word or a number as its page writes it."""

import re
import shlex
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode

from headrace_billing.settings import ApiSettings, DatabaseSettings, WorkerSettings
from headrace_gateway.guardrails.guards import PlugIn
from headrace_gateway.settings import GatewaySettings
from headrace_platform.control.settings import OperatorSettings
from headrace_platform.serving.settings import EngineSettings, ReplicaSettings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PLAIN = {str, int, float, bool, Path, SecretStr, IPv4Address, IPv6Address, NoneType}

ALL: dict[type[BaseSettings], dict[str, str]] = {
    GatewaySettings: {
        "VALKEY_URL": "redis://valkey",
        "BILLING_URL": "http://billing",
        "INGEST_TOKEN": "token",
        "DEPLOYMENTS": "deployments.json",
        "NAME": "gateway-0",
        "STATE_DIR": "state",
    },
    DatabaseSettings: {"DATABASE_URL": "postgresql://database"},
    WorkerSettings: {
        "DATABASE_URL": "postgresql://database",
        "VALKEY_URL": "redis://valkey",
        "SIGNING_KEY": "ab" * 32,
    },
    ApiSettings: {
        "DATABASE_URL": "postgresql://database",
        "VALKEY_URL": "redis://valkey",
        "SIGNING_KEY": "ab" * 32,
        "ADMIN_TOKEN": "t" * 16,
        "INGEST_TOKEN": "t" * 16,
    },
    OperatorSettings: {"ENVIRONMENT": "environment.yaml", "NAMESPACE": "models", "IDENTITY": "operator-0"},
    ReplicaSettings: {"STATE_DIR": "state", "INGEST_TOKEN": "t" * 16},
    EngineSettings: {"STATE_DIR": "state", "INGEST_TOKEN": "t" * 16, "RECORDS_URL": "http://billing"},
}
"""Each with what it must be told."""

NETWORKS = (ip_network("10.0.0.0/16"), ip_network("fd00::/8"))
WRITTEN: dict[str, object] = {
    "HEADRACE_GATEWAY_GUARDRAILS": (
        PlugIn(
            "headrace_gateway.guardrails.patterns:Patterns",
            {"file": "/etc/headrace/patterns.toml"},
        ),
    ),
    "HEADRACE_GATEWAY_IMAGE_HOSTS": frozenset({"images.example.com"}),
    "HEADRACE_GATEWAY_TRUSTED_PROXIES": NETWORKS,
    "HEADRACE_BILLING_TRUSTED_PROXIES": NETWORKS,
    "HEADRACE_BILLING_WEBHOOK_NETWORKS": NETWORKS,
}
"""What the pages write of each setting that is more than a word or a number."""

Place = tuple[type[BaseSettings], str]


def variable(place: Place) -> str:
    settings, name = place
    return f"{settings.model_config['env_prefix']}{name.upper()}"


def told(place: Place, value: str | None, monkeypatch: pytest.MonkeyPatch) -> Any:
    settings, name = place
    prefix = settings.model_config["env_prefix"]
    for least, given in ALL[settings].items():
        monkeypatch.setenv(f"{prefix}{least}", given)
    if value is not None:
        monkeypatch.setenv(variable(place), value)
    return getattr(settings(), name)


def kinds(annotation: Any) -> set[Any]:
    if get_origin(annotation) in (Union, UnionType):
        return set().union(*map(kinds, get_args(annotation)))
    return {annotation}


def is_plain(field: FieldInfo) -> bool:
    return kinds(field.annotation) <= PLAIN


PLACES: list[Place] = [(settings, name) for settings in ALL for name in settings.model_fields]
STRUCTURED = [place for place in PLACES if not is_plain(place[0].model_fields[place[1]])]


def example(name: str) -> str:
    for page in PAGES:
        found = re.search(rf"\b{name}=('[^']*'|[^\s`]+)", page.read_text())
        if found is not None:
            [value] = shlex.split(found[1])
            return value
    raise AssertionError(f"no page shows how {name} is written")


def test_no_setting_of_more_than_a_word_is_forgotten_here() -> None:
    assert {variable(place) for place in STRUCTURED} == WRITTEN.keys()


@pytest.mark.parametrize("place", STRUCTURED, ids=variable)
def test_a_setting_is_taken_as_its_page_writes_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(place, example(variable(place)), monkeypatch) == WRITTEN[variable(place)]


@pytest.mark.parametrize("place", STRUCTURED, ids=variable)
def test_what_can_not_be_read_is_named_like_any_other_wrong_setting(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, name = place
    assert NoDecode in settings.model_fields[name].metadata
    with pytest.raises(ValidationError) as refused:
        told(place, "[never-to-be-seen", monkeypatch)
    assert refused.value.errors()[0]["loc"][0] == name
    assert "never-to-be-seen" not in str(refused.value)


@pytest.mark.parametrize(
    "place",
    [place for place in PLACES if isinstance(place[0].model_fields[place[1]].default, str | int | float)],
    ids=lambda place: f"{place[0].__name__}.{place[1]}",
)
def test_a_setting_that_has_a_default_can_be_told_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = told(place, None, monkeypatch)
    assert told(place, str(default), monkeypatch) == default
