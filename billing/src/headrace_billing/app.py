"""The composition root of billing's HTTP API."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime

import structlog
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from headrace_billing import schema
from headrace_billing.accounting.http import router as accounting
from headrace_billing.accounts.change_http import router as changes
from headrace_billing.accounts.http import router as accounts
from headrace_billing.accounts.service_account_http import router as service_accounts
from headrace_billing.accounts.standing_http import router as standing_limits
from headrace_billing.approvals.http import router as approvals
from headrace_billing.audit.http import router as audit
from headrace_billing.audit.trail import AuditTrail
from headrace_billing.batches.file_http import router as files
from headrace_billing.batches.http import router as batches
from headrace_billing.body_limit import BodyLimit
from headrace_billing.callers import Authorized
from headrace_billing.clock.http import router as test_clock
from headrace_billing.clock.movable import MovableClock
from headrace_billing.clock.store import FOLLOW_SECONDS, follow
from headrace_billing.contracts.http import router as contracts
from headrace_billing.contracts.level_http import router as service_levels
from headrace_billing.costs.http import router as costs
from headrace_billing.database import Database
from headrace_billing.gpu_time.http import router as gpu_time
from headrace_billing.ingest.http import router as ingest
from headrace_billing.invoicing.correction_http import router as corrections
from headrace_billing.invoicing.einvoice.http import router as e_invoices
from headrace_billing.invoicing.focus_http import router as focus
from headrace_billing.invoicing.http import router as invoicing
from headrace_billing.invoicing.party_http import router as parties
from headrace_billing.invoicing.run_http import router as invoice_runs
from headrace_billing.invoicing.settlement_http import router as settlements
from headrace_billing.ledger.credit_http import router as credit
from headrace_billing.ledger.http import router as ledger
from headrace_billing.members.http import router as members
from headrace_billing.members.token_http import router as member_tokens
from headrace_billing.meters.backfill_http import router as backfills
from headrace_billing.meters.http import router as meters
from headrace_billing.metrics.catalogue import CATALOGUE
from headrace_billing.metrics.http import ApiCounts, Counted
from headrace_billing.openapi import describe, operation_id
from headrace_billing.outcomes.http import router as outcomes
from headrace_billing.parts import Parts, PartsOf
from headrace_billing.payments.card_http import router as cards
from headrace_billing.payments.collecting_http import router as collecting
from headrace_billing.payments.http import router as payments
from headrace_billing.payments.reconciliation_http import router as payment_reconciliation
from headrace_billing.payments.stripe_api import connected
from headrace_billing.payments.tax_adapter import tax_adapter
from headrace_billing.payments.webhook_http import router as stripe_webhook
from headrace_billing.plans.http import router as plans
from headrace_billing.plans.sign_up_http import router as sign_ups
from headrace_billing.plans.subscription_http import router as subscriptions
from headrace_billing.problems import answer_problems
from headrace_billing.rating.http import router as rating
from headrace_billing.reconciliation.http import router as reconciliation
from headrace_billing.settings import ApiSettings, from_environment
from headrace_billing.usage.http import router as usage
from headrace_billing.usage.request_http import router as requests
from headrace_billing.usage.session_http import router as sessions
from headrace_billing.valkey import ValkeyError, connect
from headrace_billing.webhooks.http import router as webhooks
from headrace_contracts import channels
from headrace_telemetry.logs import configure_logs
from headrace_telemetry.scrape import serve_metrics

log = structlog.get_logger()

ROUTERS = (
    accounts,
    changes,
    standing_limits,
    service_accounts,
    members,
    member_tokens,
    audit,
    approvals,
    webhooks,
    ledger,
    credit,
    rating,
    ingest,
    gpu_time,
    meters,
    backfills,
    outcomes,
    e_invoices,
    invoicing,
    parties,
    settlements,
    corrections,
    invoice_runs,
    accounting,
    focus,
    contracts,
    service_levels,
    reconciliation,
    costs,
    usage,
    payments,
    cards,
    collecting,
    stripe_webhook,
    payment_reconciliation,
    plans,
    subscriptions,
    sign_ups,
    sessions,
    requests,
    files,
    batches,
    test_clock,
)


def create() -> FastAPI:
    """The app as a server runs it, from the environment."""
    configure_logs("billing-api", libraries=True)
    settings = from_environment(ApiSettings)
    stripe = connected(settings.stripe_access)
    return compose(
        Parts(
            database=Database(settings.database_url.get_secret_value()),
            valkey=connect(settings.valkey_url.get_secret_value()),
            admin_token=settings.admin_token.get_secret_value(),
            ingest_token=settings.ingest_token.get_secret_value(),
            signing_key=settings.signing_key_bytes,
            now=MovableClock() if settings.test_clock else lambda: datetime.now(UTC),
            trusted_proxies=settings.trusted_proxies,
            token_signing_secret=settings.token_signing_secret_bytes,
            tax=tax_adapter(settings.tax_adapter, stripe),
            stripe=stripe,
            batches=settings.batch_bounds,
            webhook_networks=settings.webhook_networks,
        ),
        scraped_at=None
        if settings.metrics_port is None
        else (str(settings.metrics_host), settings.metrics_port),
    )


def compose(parts: Parts, *, scraped_at: tuple[str, int] | None = None) -> FastAPI:
    """The app on given parts, which it closes when it stops. `scraped_at`: host and port for its metrics."""
    counts = ApiCounts(parts.database)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with ExitStack() as stack:
            if scraped_at is not None:
                host, port = scraped_at
                stack.callback(serve_metrics(CATALOGUE, counts.samples, host=host, port=port).close)
            async with _following(parts):
                yield
        if parts.stripe is not None:
            parts.stripe.close()
        await parts.valkey.aclose()
        await parts.database.close()

    app = FastAPI(
        title="Headrace billing",
        version="1",
        lifespan=lifespan,
        dependencies=[Authorized],
        generate_unique_id_function=operation_id,
    )
    app.state.parts = parts
    app.add_middleware(
        BodyLimit, upload_bytes_max=0 if parts.batches is None else parts.batches.file_bytes_max
    )
    app.add_middleware(Counted, counts=counts)
    app.add_middleware(AuditTrail, database=parts.database)
    answer_problems(app)
    for router in ROUTERS:
        app.include_router(router)
    app.get("/healthz", tags=["health"])(healthz)
    app.get("/readyz", tags=["health"])(readyz)
    describe(app, ROUTERS)
    return app


@asynccontextmanager
async def _following(parts: Parts) -> AsyncIterator[None]:
    """A test clock goes as others move it; the real one needs nobody."""
    clock = parts.now
    if not isinstance(clock, MovableClock):
        yield
        return

    async def keep_up(clock: MovableClock) -> None:
        while True:
            try:
                await follow(parts.database, clock)
            except SQLAlchemyError as error:
                log.warning("test_clock_not_followed", error=type(error).__name__)
            await asyncio.sleep(FOLLOW_SECONDS)

    task = asyncio.create_task(keep_up(clock))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


async def readyz(parts: PartsOf) -> JSONResponse:
    """200 once Postgres is at a revision that this program serves and Valkey has been loaded; 503 names what is missing."""
    checks = {"migrations": await _migrated(parts), "valkey": await _loaded(parts)}
    ready = all(state == "ok" for state in checks.values())
    return JSONResponse(
        {"status": "ok" if ready else "not_ready", "checks": checks}, status_code=200 if ready else 503
    )


async def _migrated(parts: Parts) -> str:
    try:
        async with parts.database.begin() as session:
            current = await schema.current(session)
    except SQLAlchemyError as error:
        return f"unreachable: {type(error).__name__}"
    return "ok" if schema.serves(current) else f"at {current}, newest is {schema.newest()}"


async def _loaded(parts: Parts) -> str:
    try:
        return "ok" if await parts.valkey.exists(channels.EPOCH) else "cold: not loaded yet"
    except ValkeyError as error:
        return f"unreachable: {type(error).__name__}"
