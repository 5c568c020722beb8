"""The account over HTTP: authentication, form bodies, expansion, idempotency keys, and the failures that tests ask for."""

import contextlib
import hashlib
import hmac
import json
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.support.stripe.account import Account, Object, Refused
from tests.support.stripe.forms import decoded
from tests.support.stripe.taxes import create_calculation, create_reversal, create_transaction

API_KEY = "sk_test_of_the_stand_in"
WEBHOOK_SECRET = "whsec_of_the_stand_in"


class Fault(StrEnum):
    """What happens to one request."""

    BUSY = "429"  # nothing is done
    IN_USE = "409"  # another request with the same idempotency key is under way
    BROKEN = "500"  # nothing is done, and no idempotency key is spent
    BROKEN_FOR_GOOD = "500 for good"  # done, but answered 500; and the idempotency key only ever repeats that
    SILENT = "silent"  # done, and the line is cut before the answer


@dataclass(frozen=True, slots=True)
class Call:
    method: str
    path: str
    idempotency_key: str | None


Reply = tuple[int, Object]
BROKEN_REPLY: Reply = 500, {"error": {"type": "api_error", "message": "Something went wrong."}}


@dataclass
class FakeStripe:
    account: Account
    url: str = ""
    faults: "deque[Fault | None]" = field(default_factory=deque)
    """For the next requests, one each; afterwards all is well."""
    calls: list[Call] = field(default_factory=list)
    replies: dict[str, tuple[str, Reply]] = field(default_factory=dict)
    """By idempotency key: what was asked, and what was answered."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def fail_next(self, *faults: Fault | None) -> None:
        self.faults.extend(faults)

    def webhook(
        self, event: Object, *, secret: str = WEBHOOK_SECRET, at: int | None = None
    ) -> tuple[bytes, str]:
        """The body and `Stripe-Signature` with which Stripe delivers the event (scheme v1)."""
        body = json.dumps(event, indent=2).encode()
        time = event["created"] if at is None else at
        signed = hmac.new(secret.encode(), b"%d." % time + body, hashlib.sha256).hexdigest()
        return body, f"t={time},v1={signed},v0=unused"

    def answer(self, call: Call, body: str) -> Reply | None:
        """Null cuts the line."""
        with self.lock:
            self.calls.append(call)
            fault = self.faults.popleft() if self.faults else None
            if fault is Fault.BUSY:
                return 429, {
                    "error": {"type": "invalid_request_error", "code": "rate_limit", "message": "Busy."}
                }
            if fault is Fault.IN_USE:
                return 409, {"error": {"type": "idempotency_error", "code": "idempotency_key_in_use"}}
            if fault is Fault.BROKEN:
                return BROKEN_REPLY
            reply = self._once(call, body)
            if fault is Fault.BROKEN_FOR_GOOD:
                reply = BROKEN_REPLY
                if call.idempotency_key is not None:
                    self.replies[call.idempotency_key] = self.replies[call.idempotency_key][0], reply
            return None if fault is Fault.SILENT else reply

    def _once(self, call: Call, body: str) -> Reply:
        key = call.idempotency_key
        asked = f"{call.method} {call.path} {sorted(body.split('&'))}"
        if key is None or call.method != "POST":
            return self._reply(call, body)
        if key in self.replies:
            before, reply = self.replies[key]
            if before != asked:
                message = "Keys for idempotent requests can only be used with the same parameters."
                return 400, {"error": {"type": "idempotency_error", "message": message}}
            return reply
        reply = self._reply(call, body)
        # What never began to be executed spends no key.
        if reply[0] in (200, 402):
            self.replies[key] = asked, deepcopy(reply)
        return reply

    def _reply(self, call: Call, body: str) -> Reply:
        address = urlsplit(call.path)
        params = decoded(body if call.method == "POST" else address.query)
        expand = params.pop("expand", [])
        self.account.pass_time()
        try:
            found = self._route(call.method, address.path, params)
        except Refused as refused:
            return refused.status, {"error": refused.error}
        shown = deepcopy(found)
        for path in expand:
            self._expand(shown, path.split("."))
        return 200, shown

    def _route(self, method: str, path: str, params: Object) -> Object:
        for pattern, act in ROUTES:
            matched = re.fullmatch(pattern, f"{method} {path}")
            if matched:
                return act(self.account, params, *matched.groups())
        raise Refused(404, message=f"Unrecognized request URL ({method}: {path}).")

    def _expand(self, shown: Any, path: list[str]) -> None:
        if not path or not isinstance(shown, dict):
            return
        if path[0] == "data":
            for each in shown["data"]:
                self._expand(each, path[1:])
            return
        # What a payout or a fee comes from is not kept here.
        if isinstance(shown.get(path[0]), str) and shown[path[0]] in self.account.objects:
            shown[path[0]] = deepcopy(self.account.get(shown[path[0]]))
        self._expand(shown.get(path[0]), path[1:])


LIST_MAX = 100


def listed(kind: str, *names: str) -> Callable[..., Object]:
    def act(account: Account, params: Object) -> Object:
        found = account.listed(kind, **{name: params[name] for name in names if name in params})
        since = int(params.get("created", {}).get("gte", 0))
        found = [each for each in found if each["created"] >= since]
        if "starting_after" in params:
            ids = [each["id"] for each in found]
            found = found[ids.index(params["starting_after"]) + 1 :]
        page = found[: int(params.get("limit", 10))]
        assert len(page) <= LIST_MAX
        return {"object": "list", "data": page, "has_more": len(page) < len(found), "url": "/v1/list"}

    return act


ROUTES: tuple[tuple[str, Callable[..., Object]], ...] = (
    (r"POST /v1/customers", lambda a, p: a.create_customer(p)),
    (r"POST /v1/checkout/sessions", lambda a, p: a.create_session(p)),
    (r"POST /v1/checkout/sessions/(\w+)/expire", lambda a, _, i: a.expire_session(i)),
    (r"POST /v1/payment_intents", lambda a, p: a.create_payment_intent(p)),
    (r"POST /v1/payment_intents/(\w+)/confirm", lambda a, p, i: a.confirm_payment_intent(i, p)),
    (r"POST /v1/payment_methods/(\w+)/attach", lambda a, p, i: a.attach(i, p)),
    (r"POST /v1/payment_methods/(\w+)/detach", lambda a, _, i: a.detach(i)),
    (
        r"GET /v1/customers/(\w+)/payment_methods",
        lambda a, p, i: listed("payment_method", "customer", "type")(a, {**p, "customer": i}),
    ),
    (r"POST /v1/payment_intents/(\w+)/cancel", lambda a, _, i: a.cancel_payment_intent(i)),
    (r"POST /v1/tax/calculations", create_calculation),
    (r"POST /v1/tax/transactions/create_from_calculation", create_transaction),
    (r"POST /v1/tax/transactions/create_reversal", create_reversal),
    (r"POST /v1/refunds", lambda a, p: a.create_refund(p)),
    (r"GET /v1/disputes", listed("dispute", "payment_intent")),
    (r"GET /v1/refunds", listed("refund", "payment_intent")),
    (r"GET /v1/payment_intents", listed("payment_intent", "customer")),
    (r"GET /v1/balance_transactions", listed("balance_transaction", "source", "currency")),
    (
        r"GET /v1/(?:checkout/sessions|balance_transactions|payment_intents|setup_intents|payment_methods|refunds|disputes|charges|customers)/(\w+)",
        lambda a, _, i: a.get(i),
    ),
)


@contextlib.contextmanager
def running_stripe(account: Account) -> Iterator[FakeStripe]:
    stripe = FakeStripe(account)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve("")

        def do_POST(self) -> None:
            self._serve(self.rfile.read(int(self.headers.get("content-length", 0))).decode())

        def _serve(self, body: str) -> None:
            if self.headers.get("authorization") != f"Bearer {API_KEY}":
                reply: Reply | None = (
                    401,
                    {"error": {"type": "invalid_request_error", "message": "Invalid API Key"}},
                )
            else:
                reply = stripe.answer(
                    Call(self.command, self.path, self.headers.get("idempotency-key")), body
                )
            if reply is None:
                self.close_connection = True
                return
            status, document = reply
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
            """Tests tell what they need to."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stripe.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield stripe
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
