"""A client that does not read: the engine waits, and what it was not given it does not pay for."""

import json
import socket

import httpx2 as httpx

from headrace_contracts.usage import Ending
from tests.gateway.http.stack import Stack, chat
from tests.gateway.waiting import at_rest, eventually
from tests.support.upstream import Behaviour

TOKEN_BYTES = 20_000
# What the kernel holds on both ways, and what we read and write ahead: far less than the stream has.
HELD_TOKENS_MAX = 1000
TOKENS = 4000


async def test_the_engine_waits_for_a_client_that_does_not_read_and_its_tokens_do_not_count(
    stack: Stack,
) -> None:
    stack.account.fund(2**40)
    stack.engine.behave(Behaviour(tokens=TOKENS, text="x" * TOKEN_BYTES))
    body = json.dumps(chat(stream=True)).encode()
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", httpx.URL(stack.url).port))
        deaf.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n"
            b"content-length: %d\r\n\r\n%b" % (stack.account.secret.encode(), len(body), body)
        )
        await eventually(lambda: stack.engine.attempts and stack.engine.last.yielded > 10)
        yielded = await at_rest(lambda: stack.engine.last.yielded)
        assert yielded < HELD_TOKENS_MAX

    [event] = await stack.settled()
    assert event.ending is Ending.CLIENT_GONE
    assert event.tokens.output < yielded
    await eventually(lambda: stack.engine.last.ending == "aborted")
