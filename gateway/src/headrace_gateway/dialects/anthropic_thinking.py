"""What Anthropic's clients may say about thinking, in the terms of the model that is asked.

What must stay true: a model that can be told not to think thinks for those alone who ask for it. Whoever does not ask
reads the answer from its first block, and has bounded that answer alone by `max_tokens`.
"""

from typing import Any

import msgspec

from headrace_contracts.deployments import Thinking
from headrace_gateway.dialects.fields import Fields, value_of
from headrace_gateway.dialects.template_keywords import thinking_keywords

ASKING = ("enabled", "adaptive")

THINKING = "thinking"
KEYWORDS = "chat_template_kwargs"

UNBUDGETED = msgspec.Raw(b'{"type":"adaptive"}')


class ThinkingWish(msgspec.Struct):
    type: str = ""
    budget_tokens: Any = None


class Wishes(msgspec.Struct, frozen=True):
    thinks: bool
    budget_tokens: int | None
    keywords: Fields
    """What the client tells the engine's chat template itself."""


_wish = msgspec.json.Decoder(ThinkingWish).decode
_keywords = msgspec.json.Decoder(Fields).decode
_encode = msgspec.json.encode


def wishes_of(fields: Fields) -> Wishes:
    """Leaves them in the fields, for the engine reads them too. Raises `InvalidRequest`."""
    wish = value_of(fields, THINKING, _wish, "an object with `type`")
    budget = None if wish is None else wish.budget_tokens
    return Wishes(
        thinks=wish is not None and wish.type in ASKING,
        budget_tokens=budget if isinstance(budget, int) else None,
        keywords=value_of(fields, KEYWORDS, _keywords, "an object") or {},
    )


def engine_fields(wishes: Wishes, thinking: Thinking | None) -> Fields:
    """What the engine's chat template is told; the client's own words to it come before ours."""
    ours = {} if thinking is None else thinking_keywords(thinking, thinks=wishes.thinks)
    return {KEYWORDS: msgspec.Raw(_encode(ours | wishes.keywords))} if ours else {}


def budget_within(wishes: Wishes, *, output_tokens_max: int) -> Fields:
    """What an engine is told of a budget for thinking where the money pays for less output than the client asked for.

    It refuses one that is not below the output's bound, which then bounds the thinking too.
    """
    budget = wishes.budget_tokens
    return {} if budget is None or budget < output_tokens_max else {THINKING: UNBUDGETED}
