"""Parts of an amount by time, to the second, so that the parts of whatever split add up to the whole.

A part is what has passed by its end less what had passed by its beginning, each rounded once: neighbours share the
rounded figure between them, and nothing is lost or made on the way. What is taken up to an instant and what is given
back from it on therefore always meet.
"""

from datetime import datetime, timedelta

from headrace_billing.invoicing.amounts import divided_half_away
from headrace_billing.invoicing.usage import Span

SECOND = timedelta(seconds=1)


def passed(amount: int, whole: Span, until: datetime) -> int:
    """Of an amount for `whole`, the part for what of it lies before `until`."""
    seconds, rest = divmod(whole.end - whole.start, SECOND)
    assert not rest, f"{whole} is not of whole seconds"
    gone = (min(max(until, whole.start), whole.end) - whole.start) // SECOND
    return divided_half_away(amount * gone, seconds)


def left(amount: int, whole: Span, since: datetime) -> int:
    """The part for what of `whole` lies at `since` or after it."""
    return amount - passed(amount, whole, since)
