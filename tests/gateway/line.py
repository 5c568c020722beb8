"""The gateway's way to its Valkey, which may be cut, or lose all replies."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit


class Line:
    def __init__(self) -> None:
        self.mute = False
        """What is sent arrives, and no reply comes back."""
        self.url = ""
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._host: str | None = None
        self._port: int | None = None

    @contextlib.asynccontextmanager
    async def open(self, url: str) -> AsyncIterator["Line"]:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        here = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self.url = url.replace(f"{parts.hostname}:{parts.port}", here)
        try:
            yield self
        finally:
            self.cut()

    def cut(self) -> None:
        """For good."""
        assert self._server is not None
        self._server.close()
        self.drop()

    def drop(self) -> None:
        """Ends its connections; it may be dialled again."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_valkey, to_valkey = await asyncio.open_connection(self._host, self._port)
        self._writers += [writer, to_valkey]
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pipe(reader, to_valkey), self._pipe(from_valkey, writer, replies=True))

    async def _pipe(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool = False
    ) -> None:
        while piece := await reader.read(65536):
            if replies and self.mute:
                continue
            writer.write(piece)
