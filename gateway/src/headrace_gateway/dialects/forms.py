"""A form as dialects read it: its fields, and the one file that came with it.

What must stay true: two sendings of the same form are the same bytes here, so that a repeated request is known for one;
on the wire they differ in the boundary between their parts.
"""

import secrets
from collections.abc import Iterable

import msgspec

from headrace_gateway.dialects.fields import Fields
from headrace_gateway.errors import InvalidRequest

FILE = "file"
FILE_BASE64 = "file_base64"
"""The same as text, in Z.ai's dialect."""

OBJECT = b"{"
"""Of a body that is JSON, where a dialect takes either."""

BOUNDARY = secrets.token_hex(24)
"""Between the parts of what an engine gets: nobody who sends a file can know it, and so write parts of his own."""

CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}".encode()

TRUE, FALSE = ("true", "1"), ("false", "0")

_encode = msgspec.json.encode
_number = msgspec.json.Decoder(int | float).decode
_list = msgspec.json.Decoder(list[str]).decode


class Form(msgspec.Struct, array_like=True, frozen=True):
    fields: list[tuple[str, str]]
    """As they came, also those that came twice."""
    file: memoryview | None


encode_form = msgspec.msgpack.Encoder().encode
_form = msgspec.msgpack.Decoder(Form).decode


def decode_form(body: bytes) -> Form:
    """Of what `encode_form` made; the file is a view of it."""
    return _form(body)


def texts_of(body: bytes) -> bytes:
    """The fields alone, as a JSON object; of a body that is one already, all of it."""
    return body if body.startswith(OBJECT) else _encode(dict(decode_form(body).fields))


def fields_of(form: Form, *, flags: Iterable[str], numbers: Iterable[str], lists: Iterable[str]) -> Fields:
    """As they would stand in a JSON object: a form knows text alone. Raises `InvalidRequest`."""
    fields: Fields = {}
    several: dict[str, list[str]] = {}
    for written, value in form.fields:
        name = written.removesuffix("[]")
        if name in lists:
            several.setdefault(name, []).extend(_entries(value))
        elif name in flags:
            fields[name] = _flag(name, value)
        elif name in numbers:
            fields[name] = _as_number(name, value)
        else:
            fields[name] = msgspec.Raw(_encode(value))
    return fields | {name: msgspec.Raw(_encode(values)) for name, values in several.items()}


def written(fields: Iterable[tuple[str, str]], file: memoryview) -> bytes:
    """As an engine gets it, with `CONTENT_TYPE`."""
    opening = f"--{BOUNDARY}\r\ncontent-disposition: form-data; name=".encode()
    parts = [b'%b"%b"\r\n\r\n%b\r\n' % (opening, name.encode(), value.encode()) for name, value in fields]
    beginning = b'%b"%b"; filename="audio"\r\ncontent-type: application/octet-stream\r\n\r\n'
    return b"".join((*parts, beginning % (opening, FILE.encode()), file, f"\r\n--{BOUNDARY}--\r\n".encode()))


def _entries(value: str) -> list[str]:
    """Of a list: written as JSON, or one of its entries."""
    if value.startswith("["):
        try:
            return _list(value)
        except msgspec.MsgspecError:
            pass
    return [value]


def _flag(name: str, value: str) -> msgspec.Raw:
    if value.lower() not in (*TRUE, *FALSE):
        raise InvalidRequest(f"`{name}` must be `true` or `false`.", param=name)
    return msgspec.Raw(b"true" if value.lower() in TRUE else b"false")


def _as_number(name: str, value: str) -> msgspec.Raw:
    try:
        _number(value)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        raise InvalidRequest(f"`{name}` must be a number.", param=name) from None
    return msgspec.Raw(value.encode())
