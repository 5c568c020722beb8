"""`python -m headrace_gateway`: one worker in this process, or as many as told in processes of their own."""

import contextlib
import socket
import sys

import structlog
import uvloop
from pydantic import ValidationError

from headrace_gateway.app import run
from headrace_gateway.guardrails.guards import PlugInInvalid, open_guards
from headrace_gateway.http.server import PortTaken, check_port
from headrace_gateway.metrics.catalogue import CATALOGUE
from headrace_gateway.metrics.link import Workers
from headrace_gateway.routing.deployments import DeploymentsFile
from headrace_gateway.routing.tables import TablesUnreadable
from headrace_gateway.settings import GatewaySettings
from headrace_gateway.workers import end_with_parent, run_workers
from headrace_telemetry.logs import configure_logs
from headrace_telemetry.scrape import MetricsPortTaken, serve_metrics

WORKER = "--worker"


def main(arguments: list[str]) -> int:
    configure_logs("gateway", libraries=True)
    log = structlog.get_logger()
    try:
        settings = GatewaySettings.from_environment()
    except ValidationError as error:
        # The values may be secrets, so only what is wrong with which of them is said.
        for problem in error.errors(include_input=False, include_url=False):
            log.critical(
                "setting_invalid", setting=".".join(map(str, problem["loc"])), problem=problem["msg"]
            )
        return 2
    try:
        match arguments:
            case [flag, descriptor] if flag == WORKER:
                end_with_parent()
                return uvloop.run(run(settings, asked_at=socket.socket(fileno=int(descriptor))))
        check_port(str(settings.host), settings.port)
        if settings.workers == 1:
            return uvloop.run(run(settings))
        # What no worker could open is said once: each of them would be started again and again.
        open_guards(settings.guardrails)
        DeploymentsFile(settings.deployments)
        return _run_workers(settings)
    except (PortTaken, MetricsPortTaken) as error:
        log.critical("port_taken", problem=str(error))
    except TablesUnreadable as error:
        log.critical("deployments_unreadable", problem=str(error))
    except PlugInInvalid as error:
        log.critical("guardrail_invalid", problem=str(error))
    return 2


def _run_workers(settings: GatewaySettings) -> int:
    workers = Workers()
    with contextlib.ExitStack() as stack:
        if settings.metrics_port is not None:
            host = str(settings.metrics_host)
            scraping = serve_metrics(CATALOGUE, workers.read, host=host, port=settings.metrics_port)
            stack.callback(scraping.close)
        command = [sys.executable, "-m", "headrace_gateway", WORKER]
        return run_workers(command, settings.workers, metrics=workers)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
