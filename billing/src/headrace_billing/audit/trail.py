"""Follows each request that may change something: what it did is written with it, and what it was refused after it."""

import json
from collections.abc import Awaitable, Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace_billing import ids
from headrace_billing.audit.deed import Deed
from headrace_billing.database import BEFORE_COMMIT, Database
from headrace_billing.problems import MEDIA_TYPE

CHANGES_NOTHING = ("GET", "HEAD", "OPTIONS")
PROBLEM_BYTES_MAX = 65_536
"""Of a refusal; a longer one is no problem document of ours."""

log = structlog.get_logger()


def follow(scope: Scope, deed: Deed) -> None:
    """From here on what the request commits is this deed's."""
    scope["headrace.deed"] = deed
    BEFORE_COMMIT.set(deed.write)
    ids.MADE.set(deed.made)


class AuditTrail:
    """Around the whole app, so that a request leaves nothing behind in what runs after it."""

    def __init__(self, app: ASGIApp, database: Database) -> None:
        self.app = app
        self.database = database

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in CHANGES_NOTHING:
            await self.app(scope, receive, send)
            return
        answer = Answer(send)
        hook, made = BEFORE_COMMIT.set(None), ids.MADE.set(None)
        try:
            await self.app(scope, receive, answer)
        finally:
            BEFORE_COMMIT.reset(hook)
            ids.MADE.reset(made)
        deed: Deed | None = scope.get("headrace.deed")
        if deed is not None and not deed.written and answer.status >= 400:
            await self._remember(deed.write_refusal, answer.code)

    async def _remember(self, write: Callable[..., Awaitable[None]], code: str) -> None:
        try:
            async with self.database.begin() as session:
                await write(session, code)
        except SQLAlchemyError as error:
            # The caller has the answer, and nothing was done.
            log.warning("refusal_not_recorded", code=code, error=type(error).__name__)


class Answer:
    """Passes the answer on, and keeps of a refusal what it was."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self._problem: bytearray | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if dict(message["headers"]).get(b"content-type") == MEDIA_TYPE.encode():
                self._problem = bytearray()
        elif self._problem is not None and len(self._problem) < PROBLEM_BYTES_MAX:
            self._problem += message.get("body", b"")
        await self._send(message)

    @property
    def code(self) -> str:
        if not self._problem or len(self._problem) > PROBLEM_BYTES_MAX:
            return "failed"
        return str(json.loads(self._problem)["code"])
