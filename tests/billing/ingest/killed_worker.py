"""A worker that dies of SIGKILL after its commit and before it told anybody, run as a process of its own."""

import asyncio
import os
import signal

from redis.asyncio import Redis

from headrace_billing import worker
from headrace_billing.database import Database
from headrace_billing.ingest import jobs
from headrace_billing.ingest.batch import Ingested
from headrace_billing.settings import WorkerSettings, from_environment


async def die(_database: Database, _valkey: Redis, _result: Ingested) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    vars(jobs)["publish"] = die
    asyncio.run(worker.run(from_environment(WorkerSettings)))
