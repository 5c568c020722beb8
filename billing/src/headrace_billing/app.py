"""The composition root of billing's HTTP API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from headrace_billing import schema
from headrace_billing.accounts.change_http import router as changes
from headrace_billing.accounts.http import router as accounts
from headrace_billing.accounts.service_account_http import router as service_accounts
from headrace_billing.approvals.http import router as approvals
from headrace_billing.audit.http import router as audit
from headrace_billing.audit.trail import AuditTrail
from headrace_billing.body_limit import BodyLimit
from headrace_billing.callers import Authorized
from headrace_billing.costs.http import router as costs
from headrace_billing.database import Database
from headrace_billing.ingest.http import router as ingest
from headrace_billing.invoicing.http import router as invoicing
from headrace_billing.ledger.credit_http import router as credit
from headrace_billing.ledger.http import router as ledger
from headrace_billing.members.http import router as members
from headrace_billing.members.token_http import router as member_tokens
from headrace_billing.openapi import describe, operation_id
from headrace_billing.outcomes.http import router as outcomes
from headrace_billing.parts import Parts, PartsOf
from headrace_billing.problems import answer_problems
from headrace_billing.rating.http import router as rating
from headrace_billing.reconciliation.http import router as reconciliation
from headrace_billing.settings import ApiSettings, from_environment
from headrace_billing.usage.http import router as usage
from headrace_billing.valkey import ValkeyError, connect
from headrace_billing.webhooks.http import router as webhooks
from headrace_contracts import channels
from headrace_telemetry.logs import configure_logs

ROUTERS = (
    accounts,
    changes,
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
    outcomes,
    invoicing,
    reconciliation,
    costs,
    usage,
)


def create() -> FastAPI:
    """The app as a server runs it, from the environment."""
    configure_logs("billing-api")
    settings = from_environment(ApiSettings)
    return compose(
        Parts(
            database=Database(settings.database_url.get_secret_value()),
            valkey=connect(settings.valkey_url.get_secret_value()),
            admin_token=settings.admin_token.get_secret_value(),
            ingest_token=settings.ingest_token.get_secret_value(),
            signing_key=settings.signing_key_bytes,
            now=lambda: datetime.now(UTC),
            trusted_proxies=settings.trusted_proxies,
            token_signing_secret=settings.token_signing_secret_bytes,
            webhook_networks=settings.webhook_networks,
        )
    )


def compose(parts: Parts) -> FastAPI:
    """The app on given parts, which it closes when it stops."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
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
    app.add_middleware(BodyLimit)
    app.add_middleware(AuditTrail, database=parts.database)
    answer_problems(app)
    for router in ROUTERS:
        app.include_router(router)
    app.get("/healthz", tags=["health"])(healthz)
    app.get("/readyz", tags=["health"])(readyz)
    describe(app)
    return app


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
