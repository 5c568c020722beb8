"""How the API's requests went, counted around the whole application; and where that is scraped."""

import time
from collections.abc import Iterator

from sqlalchemy.pool import QueuePool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace_billing.database import Database
from headrace_billing.metrics import catalogue
from headrace_telemetry.metrics import Durations, Sample, sample

UNKNOWN_ROUTE = "none"
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class ApiCounts:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._requests: dict[tuple[str, str, str], int] = {}
        self._seconds: dict[tuple[str, str], Durations] = {}

    def answered(self, method: str, route: str, status: int, *, micros: int) -> None:
        method = method if method in METHODS else "other"
        counted = (method, route, str(status))
        self._requests[counted] = self._requests.get(counted, 0) + 1
        self._seconds.setdefault((method, route), Durations(catalogue.HTTP_SECONDS)).add(micros)

    def samples(self) -> Iterator[Sample]:
        """In whichever thread: what is copied first does not change under it."""
        for counted, count in list(self._requests.items()):
            yield sample(catalogue.HTTP_REQUESTS, count, *counted)
        for place, durations in list(self._seconds.items()):
            yield durations.sample(catalogue.HTTP_SECONDS, *place)
        yield from connections(self._database)


def connections(database: Database) -> Iterator[Sample]:
    pool = database.engine.pool
    assert isinstance(pool, QueuePool), type(pool)
    yield sample(catalogue.DATABASE_CONNECTIONS, pool.checkedout())


class Counted:
    """Middleware: outermost, so that what others refuse is counted too."""

    def __init__(self, app: ASGIApp, counts: ApiCounts) -> None:
        self._app = app
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter_ns(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            # The route is known once it is found; its path has parameters' names and not what was put in for them.
            route = UNKNOWN_ROUTE if "route" not in scope else scope["route"].path
            micros = (time.perf_counter_ns() - began) // 1000
            self._counts.answered(scope["method"], route, status, micros=micros)
