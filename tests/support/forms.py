"""Forms as a server reads them: by another parser than the gateway's."""

from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any


def form_of(content_type: str, body: bytes) -> dict[str, Any]:
    """Fields as text, the one file among them as bytes. A field that came twice is a list."""
    whole = BytesParser(policy=HTTP).parsebytes(f"content-type: {content_type}\r\n\r\n".encode() + body)
    fields: dict[str, Any] = {}
    for part in whole.iter_parts():
        assert isinstance(part, Message)
        name = str(part.get_param("name", header="content-disposition"))
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        value: Any = payload if part.get_filename() is not None else payload.decode()
        fields[name] = value if name not in fields else [fields[name], value]
    return fields
