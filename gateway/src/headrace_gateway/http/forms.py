"""Reading a body that is a form (`multipart/form-data`) with a file in it, within its bounds."""

import logging
from dataclasses import dataclass, field
from functools import partial

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from headrace_gateway.dialects.forms import FILE, FILE_BASE64, OBJECT, Form, encode_form
from headrace_gateway.errors import InvalidRequest
from headrace_gateway.http.bodies import Bodies, arrived, decoded, is_json
from headrace_gateway.http.exchange import Exchange

PARTS_MAX = 64
"""No dialect's form has half as many."""

FIELD_BYTES_MAX = 64 * 1024
"""Of what is not the file: a prompt has some thousand characters."""


# What it finds wrong with a form is told to whoever sent it.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


async def read_form(exchange: Exchange, bodies: Bodies, org: str) -> bytes:
    """As `encode_form` writes it. Raises `InvalidRequest` for what is none."""
    kind, parameters = parse_options_header(exchange.header("content-type"))
    if kind != b"multipart/form-data":
        raise InvalidRequest("The body must be sent as `Content-Type: multipart/form-data`.")
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise InvalidRequest("The `Content-Type` of a form must name its `boundary`.")
    body = await _arrived(exchange, bodies, org)
    return await decoded(body, bodies, org, partial(_encoded, boundary))


async def read_form_or_json(exchange: Exchange, bodies: Bodies, org: str) -> bytes:
    """A form as `read_form` reads it, or a JSON object from its brace on, which no form begins with."""
    if is_json(exchange):
        body = (await _arrived(exchange, bodies, org)).lstrip()
        if not body.startswith(OBJECT):
            raise InvalidRequest("The body must be a JSON object.")
        return body
    return await read_form(exchange, bodies, org)


async def _arrived(exchange: Exchange, bodies: Bodies, org: str) -> bytes:
    return await arrived(exchange, bodies, org, bytes_max=bodies.bounds.audio_body_bytes_max)


def _encoded(boundary: bytes, body: bytes) -> bytes:
    return encode_form(_read(body, boundary))


def _read(body: bytes, boundary: bytes) -> Form:
    parts = _Parts()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": parts.begin,
                "on_part_data": parts.add,
                "on_part_end": parts.end,
                "on_header_begin": parts.begin_header,
                "on_header_field": parts.add_to_name,
                "on_header_value": parts.add_to_value,
                "on_header_end": parts.end_header,
                "on_end": parts.finish,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise InvalidRequest(f"The body is no form: {error}") from None
    if not parts.finished:
        raise InvalidRequest("The body is no form: its last boundary is missing.")
    return Form(parts.fields, parts.file)


@dataclass
class _Parts:
    """What the parser finds."""

    fields: list[tuple[str, str]] = field(default_factory=list)
    file: memoryview | None = None
    finished: bool = False
    _name: str = ""
    _header: tuple[bytes, bytes] = (b"", b"")
    _pieces: list[memoryview] = field(default_factory=list)
    _room_bytes: int = 0
    _count: int = 0

    def begin(self) -> None:
        self._count += 1
        if self._count > PARTS_MAX:
            raise InvalidRequest(f"A form must have at most {PARTS_MAX} parts.")
        self._name, self._pieces, self._room_bytes = "", [], FIELD_BYTES_MAX

    def begin_header(self) -> None:
        self._header = (b"", b"")

    def add_to_name(self, data: bytes, start: int, end: int) -> None:
        name, value = self._header
        self._header = (name + data[start:end], value)

    def add_to_value(self, data: bytes, start: int, end: int) -> None:
        name, value = self._header
        self._header = (name, value + data[start:end])

    def end_header(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            _, parameters = parse_options_header(value)
            self._name = parameters.get(b"name", b"").decode("utf-8", "replace")

    def add(self, data: bytes, start: int, end: int) -> None:
        self._room_bytes -= end - start
        if self._room_bytes < 0 and self._name not in (FILE, FILE_BASE64):
            raise InvalidRequest(
                f"A field of a form must have at most {FIELD_BYTES_MAX} bytes.", param=self._name[:64] or None
            )
        self._pieces.append(memoryview(data)[start:end])

    def end(self) -> None:
        if not self._name:
            raise InvalidRequest("Each part of a form must have a name, in its `Content-Disposition`.")
        if self._name != FILE:
            self.fields.append((self._name, self._text()))
            return
        if self.file is not None:
            raise InvalidRequest("`file` must be one file.", param=FILE)
        # Nearly always the parser finds it in one piece, which then need not be copied.
        self.file = self._pieces[0] if len(self._pieces) == 1 else memoryview(b"".join(self._pieces))

    def finish(self) -> None:
        self.finished = True

    def _text(self) -> str:
        try:
            return b"".join(self._pieces).decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"`{self._name[:64]}` is not valid UTF-8.", param=self._name[:64]) from None
