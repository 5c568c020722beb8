"""A TCP proxy before Valkey that can be told to be slow: what is under way arrives late, also after its sender left."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

PIECE_BYTES = 65536
# What waits on a connection; beyond it the sender is not read from.
PIECES_MAX = 10_000


class SlowLine:
    def __init__(self, to_port: int) -> None:
        self.port = 0
        self.delay_seconds = 0.0
        self._to_port = to_port
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def open(self, port: int) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", port)
        self.port = port
        try:
            yield
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            with contextlib.suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", self._to_port)
                try:
                    await self._between(reader, writer, there, back)
                finally:
                    back.close()
        finally:
            writer.close()

    async def _between(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        asking = asyncio.create_task(self._late(reader, back))
        answering = asyncio.create_task(_at_once(there, writer))
        try:
            # Without Valkey there is nobody to deliver to; without the client all that it sent still arrives.
            await asyncio.wait((asking, answering), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                await asking
        finally:
            for task in (asking, answering):
                task.cancel()
            await asyncio.gather(asking, answering, return_exceptions=True)

    async def _late(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(PIECES_MAX)
        delivering = asyncio.create_task(_deliver(waiting, writer))
        loop, due = asyncio.get_running_loop(), 0.0
        try:
            piece = b"-"
            while piece:
                try:
                    piece = await reader.read(PIECE_BYTES)
                except OSError:
                    piece = b""
                due = max(due, loop.time() + self.delay_seconds)
                await waiting.put((due, piece))
            await delivering
        finally:
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)


async def _deliver(waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due, piece = await waiting.get()
        if (wait := due - loop.time()) > 0:
            await asyncio.sleep(wait)
        if not piece or writer.is_closing():
            return
        with contextlib.suppress(OSError):
            writer.write(piece)
            await writer.drain()


async def _at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE_BYTES):
            # Answers to a client that has gone are read all the same, or Valkey would wait.
            if not writer.is_closing():
                writer.write(piece)
                await _drained(writer)


async def _drained(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        await writer.drain()
