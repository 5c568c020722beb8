"""What the routes of a process share, built once by `headrace_billing.app` and handed to each by FastAPI."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request
from redis.asyncio import Redis

from headrace_billing.database import Database


@dataclass(frozen=True, slots=True)
class Parts:
    database: Database
    valkey: Redis
    admin_token: str
    ingest_token: str
    signing_key: bytes
    now: Callable[[], datetime]


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


PartsOf = Annotated[Parts, Depends(_parts)]
