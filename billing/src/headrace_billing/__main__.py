"""`python -m headrace_billing migrate|api|worker`."""

import asyncio
import sys

from granian import Granian
from granian.constants import Interfaces

from headrace_billing.schema import migrate
from headrace_billing.settings import ApiSettings, DatabaseSettings, WorkerSettings, from_environment
from headrace_billing.worker import run
from headrace_telemetry.logs import configure_logs

# A request under way at SIGTERM may finish; none takes longer than its statements may.
SHUTDOWN_SECONDS = 30


def main(arguments: list[str]) -> int:
    match arguments:
        case ["migrate"]:
            migrate(from_environment(DatabaseSettings).database_url.get_secret_value())
        case ["api"]:
            serve(from_environment(ApiSettings))
        case ["worker"]:
            configure_logs("billing-worker")
            asyncio.run(run(from_environment(WorkerSettings)))
        case _:
            sys.stderr.write(f"{__doc__}\n")
            return 2
    return 0


def serve(settings: ApiSettings) -> None:
    """Runs until SIGTERM or SIGINT."""
    Granian(
        "headrace_billing.app:create",
        factory=True,
        interface=Interfaces.ASGI,
        address=settings.host,
        port=settings.port,
        workers=settings.workers,
        workers_kill_timeout=SHUTDOWN_SECONDS,
    ).serve()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
