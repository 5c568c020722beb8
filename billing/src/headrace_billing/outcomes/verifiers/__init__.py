"""The platform's own verifiers (observers of grade C), by id."""

from collections.abc import Mapping

from headrace_billing.outcomes.verifiers import arithmetic
from headrace_billing.outcomes.verifiers.verdict import Verifier

VERIFIERS: Mapping[str, Verifier] = {verifier.id: verifier for verifier in (arithmetic.VERIFIER,)}
