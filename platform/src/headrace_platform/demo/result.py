"""`.headrace/demo.json`: what the demo did, for programs."""

from pathlib import Path

import msgspec


class DemoResult(msgspec.Struct, kw_only=True):
    """Token counts are input and output together. Amounts are decimal strings in `currency`."""

    requests: int = 0
    """Requests that the gateway admitted; a refused one is none."""
    engine_tokens: int = 0
    billed_tokens: int = 0
    """Tokens in usage events, whoever pays for them: also those inside a task."""
    named_differences: dict[str, int] = {}
    outcomes_accepted: int = 0
    outcomes_rejected: int = 0
    currency: str = "USD"
    invoice_total: str = "0"
    """Sum over the invoices that the demo closed."""
    invoices: list[str] = []
    ledger_sum: str = "0"
    """Sum of every posting in the ledger; double entry makes it zero."""
    unreconciled: int = 0
    seconds: dict[str, float] = {}
    claims: list[str] = []

    def write(self, path: Path) -> None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")
