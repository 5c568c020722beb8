"""Where messages may be sent: public addresses, by https, and what the seller's settings name besides."""

import ssl
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import replace
from http.server import ThreadingHTTPServer
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_billing.app import compose
from headrace_billing.ledger.notice import NoticeKind
from headrace_billing.ledger.notices import tell_low_balances
from headrace_billing.parts import Parts
from headrace_billing.settings import WorkerSettings
from headrace_billing.webhooks.endpoint import EndpointUrlInvalid, check_url, may_speak_to
from headrace_billing.webhooks.event import EventType
from headrace_billing.webhooks.sending import Sender
from tests.billing.ingest.usage import Gateway
from tests.billing.invoicing.shop import Shop
from tests.billing.outcomes.market import OUTCOME_TYPE
from tests.billing.seller import Customer, Seller
from tests.billing.webhooks.conftest import LOOPBACK, Post
from tests.billing.webhooks.examples import examples, not_as_documented
from tests.billing.webhooks.receiver import Handler, Receiver

INSIDE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104 - an address to refuse
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "fe80::1",
    "fd00::1",
    "ff02::1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
]


@pytest.mark.parametrize("address", INSIDE)
def test_what_is_inside_is_not_spoken_to(address: str) -> None:
    assert not may_speak_to(ip_address(address), allowed=())
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(EndpointUrlInvalid):
        check_url(f"https://{host}/hooks", allowed=())


@given(st.ip_addresses())
def test_only_what_is_global_or_named_is_spoken_to(address: IPv4Address | IPv6Address) -> None:
    if may_speak_to(address, allowed=()):
        assert address.is_global
    assert may_speak_to(address, allowed=[ip_network(address)], plain=True)
    assert not may_speak_to(address, allowed=(), plain=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "https://user:pw@example.com/",
        "https://example.com/#x",
        "https:///x",
        "https://[::ffff:127.0.0.1]/",
        "https://exa mple.com/",
        "https://example.com:99999/",
        "example.com",
        "https://[::1",
    ],
)
async def test_other_addresses_are_refused_with_a_reason(
    seller: Seller, parts: Parts, customer: Customer, url: str
) -> None:
    strict = replace(parts, webhook_networks=())
    transport = httpx2.ASGITransport(app=compose(strict))
    async with httpx2.AsyncClient(transport=transport, base_url="http://billing") as http:
        refused = await Seller(http).refused("/v1/webhook-endpoints", {"url": url})
    assert refused == (422, "endpoint_url_invalid")
    assert (await seller.get("/v1/webhook-endpoints"))["items"] == []


@pytest.mark.parametrize("found", [["10.0.0.1"], ["8.8.8.8", "10.0.0.1"], [], ["no address"]])
async def test_a_name_that_points_inside_is_not_connected_to(found: list[str]) -> None:
    async def resolve(_: str, __: int) -> Sequence[str]:
        return found

    sender = Sender(resolve=resolve)
    answer = await sender.send("https://hooks.test/", "{}", {})
    await sender.close()
    assert (answer.status, answer.error) == (None, "address not allowed")


async def test_without_tls_only_named_networks_are_connected_to() -> None:
    async def resolve(_: str, __: int) -> Sequence[str]:
        return ["8.8.8.8"]

    sender = Sender(resolve=resolve, allowed=LOOPBACK)
    answer = await sender.send("http://hooks.test/", "{}", {})
    await sender.close()
    assert answer.error == "address not allowed"


async def test_the_address_that_was_looked_at_is_the_one_connected_to(receiver: Receiver) -> None:
    """A name that points elsewhere at the second look has been asked for once."""
    answers = [["127.0.0.1"], ["10.0.0.1"]]

    async def resolve(_: str, __: int) -> Sequence[str]:
        return answers.pop(0)

    sender = Sender(resolve=resolve, allowed=LOOPBACK)
    first = await sender.send(f"http://hooks.test:{receiver.port}/a", "{}", {})
    second = await sender.send(f"http://hooks.test:{receiver.port}/a", "{}", {})
    await sender.close()
    assert (first.status, second.error) == (204, "address not allowed")
    assert [headers["host"] for headers, _ in receiver.arrived] == [f"hooks.test:{receiver.port}"]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of the name hooks.test; its key stands beside it."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=hooks.test"),
            *("-addext", "subjectAltName=DNS:hooks.test"),
        ],
        check=True,
        capture_output=True,
    )
    return certificate


@pytest.mark.parametrize("name", ["hooks.test", "other.test"])
async def test_a_certificate_must_be_the_name_s_although_an_address_is_connected_to(
    certificate: Path, name: str
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(server.server_address[1])
    server.RequestHandlerClass = type("Bound", (Handler,), {"receiver": receiver})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a refused handshake is what is wanted
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()

    async def resolve(_: str, __: int) -> Sequence[str]:
        return ["127.0.0.1"]

    sender = Sender(
        resolve=resolve, allowed=LOOPBACK, tls=ssl.create_default_context(cafile=str(certificate))
    )
    try:
        answer = await sender.send(f"https://{name}:{receiver.port}/", "{}", {})
    finally:
        await sender.close()
        server.shutdown()
        thread.join()
        server.server_close()
    assert (answer.status, answer.error) == ((204, None) if name == "hooks.test" else (None, "ConnectError"))


async def test_there_are_not_too_many_endpoints_of_one_organisation(
    seller: Seller, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace_billing.webhooks.http.ENDPOINTS_MAX", 1)
    body = {"organization": customer.org, "url": "https://hooks.example.com/"}
    made = await seller.post("/v1/webhook-endpoints", body)
    assert await seller.refused("/v1/webhook-endpoints", body) == (409, "too_many_endpoints")
    await seller.post(f"/v1/webhook-endpoints/{made['id']}/remove")
    await seller.post("/v1/webhook-endpoints", body)
    path = f"/v1/webhook-endpoints/{made['id']}/deliveries"
    assert await seller.refused(path, None, method="GET") == (404, "not_found")


async def test_everything_that_happens_is_noted_under_a_type_that_the_reference_names(
    seller: Seller, customer: Customer, receiver: Receiver, post: Post, parts: Parts
) -> None:
    endpoint = await seller.post("/v1/webhook-endpoints", {"organization": customer.org, "url": receiver.url})
    price_book = await seller.publish_prices()
    await seller.post("/v1/outcome-types", OUTCOME_TYPE)
    shop = Shop(
        seller=seller,
        customer=customer,
        buyer=Seller(seller.http, customer.secret),
        gateway=Gateway(customer, price_book),
        database=parts.database,
        parts=parts,
        clock=post.clock,
    )
    await shop.sell_outcome("What is 17+25?")
    await seller.ask("PUT", f"/v1/wallets/{customer.wallet}/alert", {"below": "50.00"})
    await shop.sell()
    await tell_low_balances(parts.database, now=post.clock.now)
    await seller.post(f"/v1/keys/{customer.key}/revoke")
    post.clock.passes(days=2)
    await shop.close()
    await post.round()
    types = [body["type"] for body in receiver.verified(endpoint["secret"])]
    assert sorted(types) == [
        "credit.low",
        "invoice.finalized",
        "key.revoked",
        "outcome.accepted",
        "outcome.verified",
    ]
    assert set(types) <= set(EventType)
    assert await not_as_documented(parts.database) == []


def test_every_type_has_an_example_and_every_notice_is_a_type() -> None:
    shown = examples()
    assert list(shown) == [body["type"] for body in shown.values()]
    assert set(shown) == set(EventType)
    notices = {f"notice.{kind}" for kind in NoticeKind if kind is not NoticeKind.BALANCE_LOW}
    assert {kind for kind in EventType if kind.startswith("notice.")} == notices


def test_networks_that_webhooks_may_reach_are_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "DATABASE_URL": "postgresql://x",
        "VALKEY_URL": "redis://x",
        "SIGNING_KEY": "5a" * 32,
        "WEBHOOK_NETWORKS": "10.0.0.0/8, fd00::/8",
    }.items():
        monkeypatch.setenv(f"HEADRACE_BILLING_{name}", value)
    networks = WorkerSettings().webhook_networks  # type: ignore[call-arg]  # the environment fills it
    assert networks == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
