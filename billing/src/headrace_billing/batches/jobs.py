"""What a worker does for batches: looks at their files, sends their requests, ends them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from headrace_billing.batches.bounds import BatchBounds
from headrace_billing.batches.dispatching import Dispatcher
from headrace_billing.batches.ending import end_next, forget_files
from headrace_billing.batches.gateway import Gateway
from headrace_billing.batches.validating import validate_next
from headrace_billing.database import Database


@dataclass(frozen=True, slots=True)
class Batches:
    database: Database
    gateway: Gateway
    dispatcher: Dispatcher
    bounds: BatchBounds
    now: Callable[[], datetime]

    @classmethod
    def through(
        cls,
        url: str,
        secret: str,
        *,
        database: Database,
        at_once_max: int,
        bounds: BatchBounds,
        now: Callable[[], datetime],
    ) -> "Batches":
        """`url`: a gateway's; `secret`: the ingest token, which it has too."""
        gateway = Gateway(url, secret, connections_max=at_once_max)
        dispatcher = Dispatcher(database, gateway, at_once_max=at_once_max, now=now)
        return cls(database, gateway, dispatcher, bounds, now)

    async def validate(self) -> bool:
        return await validate_next(self.database, self.gateway, bounds=self.bounds, now=self.now())

    async def end(self) -> bool:
        return await end_next(self.database, now=self.now())

    async def forget_files(self) -> bool:
        return await forget_files(self.database, now=self.now())

    async def close(self) -> None:
        await self.dispatcher.close()
        await self.gateway.close()
