"""What Anthropic's clients may say about thinking, in the terms of the model that is asked.

What must stay true: a model that can be told not to think thinks for those alone who ask for it. Whoever does not ask
reads the answer from its first block, and has bounded that answer alone by `max_tokens`.
"""

import msgspec

from headrace_contracts.deployments import Thinking
from headrace_gateway.dialects.fields import Fields, value_of
from headrace_gateway.dialects.template_keywords import thinking_keywords

ASKING = ("enabled", "adaptive")

KEYWORDS = "chat_template_kwargs"


class ThinkingWish(msgspec.Struct):
    type: str = ""


class Wishes(msgspec.Struct, frozen=True):
    thinks: bool
    keywords: Fields
    """What the client tells the engine's chat template itself."""


_wish = msgspec.json.Decoder(ThinkingWish).decode
_keywords = msgspec.json.Decoder(Fields).decode
_encode = msgspec.json.encode


def wishes_of(fields: Fields) -> Wishes:
    """Leaves them in the fields, for the engine reads them too. Raises `InvalidRequest`."""
    wish = value_of(fields, "thinking", _wish, "an object with `type`")
    return Wishes(
        thinks=wish is not None and wish.type in ASKING,
        keywords=value_of(fields, KEYWORDS, _keywords, "an object") or {},
    )


def engine_fields(wishes: Wishes, thinking: Thinking | None) -> Fields:
    """What the engine's chat template is told; the client's own words to it come before ours."""
    ours = {} if thinking is None else thinking_keywords(thinking, thinks=wishes.thinks)
    return {KEYWORDS: msgspec.Raw(_encode(ours | wishes.keywords))} if ours else {}
