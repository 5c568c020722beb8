"""An API that dies of SIGKILL in the midst of a report, before its commit or after it; started as a process of its own."""

import os
import signal
from typing import Any

from fastapi import FastAPI
from granian import Granian
from granian.constants import Interfaces

from headrace_billing import app
from headrace_billing.ingest import journal_store, publish
from headrace_billing.settings import ApiSettings, from_environment

MOMENT = "MOMENT_OF_DEATH"


async def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def create() -> FastAPI:
    if os.environ[MOMENT] == "before the commit":
        vars(journal_store)["note_received"] = die
    else:
        vars(publish)["publish"] = die
    return app.create()


if __name__ == "__main__":
    settings = from_environment(ApiSettings)
    Granian(
        "tests.billing.meters.killed_api:create",
        factory=True,
        interface=Interfaces.ASGI,
        address=settings.host,
        port=settings.port,
    ).serve()
