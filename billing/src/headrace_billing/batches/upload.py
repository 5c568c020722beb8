"""A file as it comes: multipart/form-data read piece by piece, so that neither memory nor disk holds the whole of it."""

from collections.abc import AsyncIterator

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from headrace_billing.errors import InvalidRequest

FIELD_BYTES_MAX = 1024
PARTS_MAX = 10
FILENAME_CHARACTERS_MAX = 255
HEAD_BYTES_MAX = 8 * 1024
"""Of one part."""


class Upload:
    """The part `file` is handed on as it comes; the others are small, and read when all has come."""

    def __init__(self, content_type: str) -> None:
        """Raises `InvalidRequest`."""
        media_type, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if media_type != b"multipart/form-data" or not boundary:
            raise InvalidRequest("Send the file as multipart/form-data, in the parts `file` and `purpose`.")
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        """Of the part `file`; null while it has not come."""
        self._name = self._header = self._value = self._disposition = b""
        self._head_bytes = self._parts = 0
        self._content, self._file = bytearray(), bytearray()
        self._complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_goes_on,
                "on_header_value": self._value_goes_on,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._content_begins,
                "on_part_data": self._content_goes_on,
                "on_part_end": self._part_ends,
                "on_end": self._all_ends,
            },
        )

    async def pieces(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Of the file. Raises `InvalidRequest` for what is no form, or is cut short."""
        async for piece in body:
            try:
                self._parser.write(piece)
            except MultipartParseError as error:
                raise InvalidRequest(f"The body is no multipart/form-data: {error}") from error
            if self._file:
                yield bytes(self._file)
                self._file.clear()
        if not self._complete:
            raise InvalidRequest("The body ended before its last part did.")
        if self.filename is None:
            raise InvalidRequest("The part `file` is missing.")

    # for the parser

    def _part_begins(self) -> None:
        self._parts += 1
        if self._parts > PARTS_MAX:
            raise InvalidRequest(f"A form has at most {PARTS_MAX} parts.")
        self._disposition, self._head_bytes = b"", 0
        self._content.clear()

    def _header_goes_on(self, data: bytes, start: int, end: int) -> None:
        self._count_head(end - start)
        self._header += data[start:end]

    def _value_goes_on(self, data: bytes, start: int, end: int) -> None:
        self._count_head(end - start)
        self._value += data[start:end]

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX:
            raise InvalidRequest("A part's head is too long.")

    def _header_ends(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _content_begins(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"")
        if self._name == b"file":
            if self.filename is not None:
                raise InvalidRequest("Send one file at a time.")
            self.filename = _filename(options.get(b"filename", b""))

    def _content_goes_on(self, data: bytes, start: int, end: int) -> None:
        if self._name == b"file":
            self._file += data[start:end]
            return
        self._content += data[start:end]
        if len(self._content) > FIELD_BYTES_MAX:
            raise InvalidRequest(f"A part that is no file has at most {FIELD_BYTES_MAX} bytes.")

    def _part_ends(self) -> None:
        if self._name != b"file":
            name, value = self._name.decode(errors="replace"), self._content.decode(errors="replace")
            self.fields[name] = value

    def _all_ends(self) -> None:
        self._complete = True


def _filename(given: bytes) -> str:
    """As it is shown again: printable, and without the path that some clients send along."""
    name = given.decode(errors="replace").replace("\\", "/").rpartition("/")[2]
    printable = "".join(each if each.isprintable() else "_" for each in name)[:FILENAME_CHARACTERS_MAX]
    return printable or "file"
