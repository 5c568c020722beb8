"""Where a client speaks from is what our own proxies heard, and never what it says itself."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headrace_contracts.access import KeyScope
from headrace_contracts.networks import address_of
from headrace_gateway.http.client_address import ClientAddresses
from headrace_gateway.http.exchange import Exchange
from headrace_gateway.metering.settings import MeterSettings
from headrace_gateway.settings import GatewaySettings
from tests.gateway.account import Account
from tests.gateway.http.stack import Stack, chat, running_stack
from tests.gateway.waiting import eventually

PROXIES = (ip_network("10.0.0.0/8"), ip_network("127.0.0.1/32"))
CHAT = "/v1/chat/completions"


@dataclass
class FromPeer:
    """A connection, as far as its other end matters."""

    peer: str

    def __getattr__(self, name: str) -> None:
        raise AssertionError(f"{name} is not asked for")


def seen(peer: str, forwarded: str | None) -> str:
    headers = {} if forwarded is None else {b"x-forwarded-for": forwarded.encode()}
    exchange = Exchange(FromPeer(peer), "POST", "/", headers, keep_alive=True, chunked=True)  # type: ignore[arg-type]
    return str(ClientAddresses(PROXIES).of(exchange))


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "10.0.0.1", "203.0.113.9"),  # whoever is no proxy of ours speaks for itself alone
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.7, 10.9.9.9", "198.51.100.7"),
        ("10.0.0.1", "10.1.1.1, 10.9.9.9", "10.1.1.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4, unknown", "None"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.7:4711", "198.51.100.7"),
        ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"),
        ("fe80::1%eth0", None, "fe80::1"),
        ("10.0.0.1", ", ".join(["10.0.0.2"] * 100), "None"),
    ],
)
def test_the_first_from_the_right_that_is_no_proxy_is_the_client(
    peer: str, forwarded: str | None, expected: str
) -> None:
    assert seen(peer, forwarded) == expected


@given(
    st.ip_addresses(v=4).filter(lambda address: all(address not in network for network in PROXIES)),
    st.text(st.characters(codec="ascii")),
)
def test_whatever_a_client_writes_it_is_whom_our_proxy_heard(address: object, written: str) -> None:
    assert seen("10.0.0.1", f"{written}, {address}") == str(address)


@given(st.text())
def test_no_text_breaks_the_reading_of_an_address(text: str) -> None:
    address = address_of(text)
    assert address is None or address == ip_address(str(address))


@pytest.mark.parametrize(
    ("given", "networks"),
    [("", ()), ("10.0.0.0/8, 127.0.0.1", PROXIES), ("10.0.0.1/8", None), ("the balancer", None)],
)
def test_trusted_proxies_are_told_as_networks_with_commas(
    monkeypatch: pytest.MonkeyPatch, given: str, networks: tuple[object, ...] | None
) -> None:
    wanted = {"VALKEY_URL": "redis://x", "BILLING_URL": "http://x", "INGEST_TOKEN": "t", "NAME": "g"}
    places = {"DEPLOYMENTS": "deployments.json", "STATE_DIR": "."}
    for name, value in (wanted | places | {"TRUSTED_PROXIES": given}).items():
        monkeypatch.setenv(f"HEADRACE_GATEWAY_{name}", value)
    if networks is None:
        with pytest.raises(ValidationError, match="trusted_proxies"):
            GatewaySettings.from_environment()
    else:
        assert GatewaySettings.from_environment().trusted_proxies == networks


async def test_a_key_is_refused_from_elsewhere_and_nothing_is_held(stack: Stack) -> None:
    stack.account.push_key(allowed_cidrs=["203.0.113.0/24", "2001:db8::/32"])
    for reply in (
        await stack.post(),
        await stack.http.get("/v1/models"),
        await stack.post("/v1/messages/count_tokens", model="glm-test", messages=[]),
        await stack.http.post(CHAT, json=chat(), headers={"x-forwarded-for": "203.0.113.9"}),
        await stack.raw(b"{"),
    ):
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "ip_not_allowed")
        assert "127.0.0.1" in reply.json()["error"]["message"]
    assert stack.engine.attempts == []
    assert stack.account.money() == (1_000_000, 0, 0)
    assert stack.account.events() == []


async def test_a_changed_list_holds_from_the_next_request_on(stack: Stack) -> None:
    assert (await stack.post()).status_code == 200
    stack.account.push_project(allowed_cidrs=["203.0.113.0/24"])
    assert (await stack.post()).status_code == 403
    stack.account.push_project(allowed_cidrs=["203.0.113.0/24", "127.0.0.0/8"])
    assert (await stack.post()).status_code == 200
    stack.account.push_key(allowed_cidrs=["10.0.0.0/8"])  # both must allow it
    assert (await stack.post()).status_code == 403
    await stack.settled(2)


@pytest.fixture
async def behind_a_proxy(
    account: Account, settings: MeterSettings, unused_port: Callable[[], int]
) -> AsyncIterator[Stack]:
    async with running_stack(account, settings, unused_port(), trusted_proxies=PROXIES) as running:
        yield running


async def test_behind_a_proxy_the_client_is_whom_the_last_line_names(behind_a_proxy: Stack) -> None:
    stack = behind_a_proxy
    stack.account.push_key(allowed_cidrs=["203.0.113.0/24"])

    async def status(*lines: str) -> int:
        headers = [("x-forwarded-for", line) for line in lines]
        return (await stack.http.post(CHAT, json=chat(), headers=headers)).status_code

    assert await status("203.0.113.9") == 200
    assert await status("1.2.3.4, 203.0.113.9") == 200
    assert await status("203.0.113.9, 1.2.3.4") == 403
    assert await status("203.0.113.9", "1.2.3.4") == 403  # the proxy's own line stands below the client's
    assert await status("1.2.3.4", "203.0.113.9") == 200
    assert await status() == 403
    await stack.settled(3)


@pytest.mark.parametrize(
    ("scopes", "statuses"),
    [
        (None, (200, 200, 200)),
        ([KeyScope.INFERENCE], (200, 403, 200)),
        ([KeyScope.MODELS_READ], (403, 200, 403)),
        ([KeyScope.TASKS], (403, 403, 403)),
    ],
)
async def test_a_key_serves_only_what_it_was_made_for(
    stack: Stack, scopes: list[KeyScope] | None, statuses: tuple[int, ...]
) -> None:
    await stack.post()
    stack.account.push_key(scopes=scopes)
    answers = [
        await stack.post(),
        await stack.http.get("/v1/models"),
        await stack.post("/v1/messages/count_tokens", model="glm-test", messages=[]),
    ]
    assert tuple(answer.status_code for answer in answers) == statuses
    for answer in answers:
        assert answer.status_code == 200 or answer.json()["error"]["code"] == "scope_missing"
    await eventually(lambda: not stack.meter.running)


async def test_an_organisation_s_list_of_models_binds_all_of_its_keys(stack: Stack) -> None:
    await stack.post()
    stack.account.push_project(org_models=["glm-other"])
    assert (await stack.post()).json()["error"]["code"] == "model_not_allowed"
    assert (await stack.http.get("/v1/models")).json()["data"] == []
    stack.account.push_project(org_models=["glm-alias"], models=["glm-test"])
    assert (await stack.post()).status_code == 200
    await stack.settled(2)
