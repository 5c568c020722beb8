"""A bound on request bodies, held while they arrive: a caller that says nothing of the length is counted too."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace_billing.errors import BillingError
from headrace_billing.problems import problem

# A thousand usage events of a few KiB each, with room for an engine's wordy usage objects.
BODY_BYTES_MAX = 16 * 1024 * 1024


class BodyTooLarge(BillingError):
    """More than billing reads of one request."""

    code = "body_too_large"

    def __init__(self) -> None:
        super().__init__(f"The request body is larger than {BODY_BYTES_MAX} bytes.")


class BodyLimit:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > BODY_BYTES_MAX:
            error = BodyTooLarge()
            await problem(error.code, str(error))(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > BODY_BYTES_MAX:
                # FastAPI would call any other exception a body it can't parse.
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(BodyTooLarge()))
            return message

        await self.app(scope, counted, send)
