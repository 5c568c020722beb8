"""A bound on request bodies, held while they arrive: a caller that says nothing of the length is counted too."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace_billing.errors import BillingError
from headrace_billing.problems import problem

# A thousand usage events of a few KiB each, with room for an engine's wordy usage objects.
BODY_BYTES_MAX = 16 * 1024 * 1024


UPLOAD_PATH = "/v1/files"
FORM_BYTES_MAX = 64 * 1024
"""Of a form around its file."""


class BodyTooLarge(BillingError):
    """More than billing reads of one request."""

    code = "body_too_large"

    def __init__(self, bytes_max: int) -> None:
        super().__init__(f"The request body is larger than {bytes_max} bytes.")


class BodyLimit:
    def __init__(self, app: ASGIApp, *, upload_bytes_max: int) -> None:
        """`upload_bytes_max`: of a file, which is stored as it comes."""
        self.app = app
        self._upload_bytes_max = max(BODY_BYTES_MAX, upload_bytes_max + FORM_BYTES_MAX)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        bytes_max = self._upload_bytes_max if scope["path"] == UPLOAD_PATH else BODY_BYTES_MAX
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > bytes_max:
            error = BodyTooLarge(bytes_max)
            await problem(error.code, str(error), path=scope["path"])(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > bytes_max:
                # FastAPI would call any other exception a body it can't parse.
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(BodyTooLarge(bytes_max)))
            return message

        await self.app(scope, counted, send)
