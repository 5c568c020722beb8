"""`python -m headrace_billing migrate|wait-schema|api|worker`.

`wait-schema` ends well once the database is at a revision that this program serves: what a pod does first.
"""

import asyncio
import sys

import structlog
from granian import Granian
from granian.constants import Interfaces

from headrace_billing.schema import SchemaNotReached, migrate, wait
from headrace_billing.settings import ApiSettings, DatabaseSettings, WorkerSettings, from_environment
from headrace_billing.worker import run
from headrace_telemetry.logs import configure_logs

# A request under way at SIGTERM may finish; none takes longer than its statements may.
SHUTDOWN_SECONDS = 30
# Longer than any migration should take; the pod is started again and waits anew if not.
SCHEMA_SECONDS_MAX = 600


def main(arguments: list[str]) -> int:
    match arguments:
        case ["migrate"]:
            migrate(from_environment(DatabaseSettings).database_url.get_secret_value())
        case ["wait-schema"]:
            configure_logs("billing-wait-schema")
            return await_schema(from_environment(DatabaseSettings))
        case ["api"]:
            serve(from_environment(ApiSettings))
        case ["worker"]:
            configure_logs("billing-worker", libraries=True)
            asyncio.run(run(from_environment(WorkerSettings)))
        case _:
            sys.stderr.write(f"{__doc__}\n")
            return 2
    return 0


def await_schema(settings: DatabaseSettings) -> int:
    try:
        wait(settings.database_url.get_secret_value(), seconds_max=SCHEMA_SECONDS_MAX)
    except SchemaNotReached as error:
        structlog.get_logger().critical(error.code, problem=str(error))
        return 1
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
