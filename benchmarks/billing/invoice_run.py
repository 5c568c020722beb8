"""How long an invoice run takes: from drafts of all customers to the last final invoice, by workers as they are deployed.

Each invoice is reconciled, drawn up, taxed, numbered without gap, stored with its lines and posted, exactly as
anywhere else, and what stands in the books afterwards is looked at before a figure is believed.
"""

import asyncio
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import psutil
import psycopg
import redis
from benchmarks.billing import month
from benchmarks.billing.parts import Servers, cpu_seconds, log, seller, servers
from tests.support.processes import end

from headrace_contracts import channels

POLL_SECONDS = 1.0
SECONDS_MAX = 7200


def run(*, customers: int, lines: int, requests: int, workers: int) -> dict[str, Any]:
    with servers() as running:
        price_book = asyncio.run(_publish(running, month.models(lines)))
        began = time.monotonic()
        month.fill(
            running.database_url, price_book=price_book, customers=customers, lines=lines, requests=requests
        )
        log(f"the month is in the books after {time.monotonic() - began:.0f} s")
        return measure(running, customers=customers, lines=lines, workers=workers)


def measure(running: Servers, *, customers: int, lines: int, workers: int) -> dict[str, Any]:
    with redis.Redis.from_url(running.valkey_url) as valkey:
        valkey.set(channels.EPOCH, "bench")
    drafts = asyncio.run(_begin(running))
    assert drafts == customers, f"{drafts} drafts of {customers} customers"
    load_before = os.getloadavg()[0]
    postgres_before = cpu_seconds(running.postgres)
    with ExitStack() as stack, psycopg.connect(running.database_url, autocommit=True) as books:
        size_before = _bytes(books)
        began = time.monotonic()
        working = []
        for _ in range(workers):
            process = subprocess.Popen(
                [sys.executable, "-m", "headrace_billing", "worker"],
                env=running.environment(),
                stdout=subprocess.DEVNULL,
            )
            stack.callback(end, process)
            working.append(psutil.Process(process.pid))
        _wait(books, began)
        seconds = time.monotonic() - began
        spent = sum(cpu_seconds(process) for process in working)
        postgres_spent = cpu_seconds(running.postgres) - postgres_before
        _check(books, customers=customers, lines=lines)
        size = _bytes(books) - size_before
    return {
        "invoice_run_seconds": round(seconds, 1),
        "invoice_run_cpu_seconds": {"workers": round(spent, 1), "postgres": round(postgres_spent, 1)},
        "invoice_run_load_before": round(load_before, 2),
        "invoice_run_sizes": {
            "customers": customers,
            "lines_an_invoice": lines,
            "workers": workers,
            "bytes_an_invoice_in_postgres": round(size / customers),
        },
    }


async def _publish(running: Servers, models: list[str]) -> str:
    async with seller(running) as admin:
        book = await admin.post(
            "/v1/price-books", {"currency": "USD", "models": dict.fromkeys(models, month.PRICES)}
        )
    return str(book["id"])


async def _begin(running: Servers) -> int:
    async with seller(running) as admin:
        begun = await admin.post("/v1/invoice-runs", {"end": month.END.isoformat(), "grace_hours": 0})
    return int(begun["drafts"])


def _wait(books: psycopg.Connection, began: float) -> None:
    told = began
    while True:
        time.sleep(POLL_SECONDS)
        (waiting,) = books.execute(
            "SELECT count(*) FROM invoice_drafts WHERE state = 'draft'"
        ).fetchone() or (0,)
        if waiting == 0:
            return
        now = time.monotonic()
        if now - told > timedelta(seconds=30).total_seconds():
            told = now
            log(f"{waiting} drafts are left after {now - began:.0f} s")
        assert now - began < SECONDS_MAX, f"{waiting} drafts are left after {SECONDS_MAX} s"


def _check(books: psycopg.Connection, *, customers: int, lines: int) -> None:
    """Every customer has one invoice with all of its lines, no number is missing, and nothing is left unbilled."""
    seen = books.execute("""
        SELECT (SELECT count(*) FROM invoices), (SELECT max(sequence) FROM invoices),
               (SELECT count(DISTINCT org) FROM invoices), (SELECT count(*) FROM invoice_lines),
               (SELECT count(*) FROM invoice_drafts WHERE state <> 'final'),
               (SELECT count(*) FROM ledger_balances WHERE kind = 'unbilled' AND amount_nanos <> 0),
               (SELECT sum(amount_nanos) FROM ledger_balances)
    """).fetchone()
    expected = (customers, customers, customers, customers * lines, 0, 0, 0)
    assert seen == expected, f"the books hold {seen}, not {expected}"


def _bytes(books: psycopg.Connection) -> int:
    (size,) = books.execute("SELECT pg_database_size(current_database())").fetchone() or (0,)
    return int(size)
