"""What Z.ai's clients may say about thinking, in the terms of the model that is asked.

The models differ: some can be told not to think, some tell efforts apart, some do neither. What each can do
stands in its deployment's record; no model is known by name here.
"""

import msgspec

from headrace_contracts.deployments import Deployment, Thinking
from headrace_gateway.dialects.fields import Fields, value_of
from headrace_gateway.dialects.template_keywords import thinking_keywords
from headrace_gateway.errors import InvalidRequest, NotOffered

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Z.ai's scale, least first. The first two ask for no thinking at all where a model can do that."""
OFF = EFFORTS[:2]


class ThinkingWish(msgspec.Struct):
    type: str = "enabled"
    clear_thinking: bool | None = None


class Wishes(msgspec.Struct, frozen=True):
    """What a request says about thinking, each null where it says nothing."""

    enabled: bool | None
    clears: bool
    """Whether the thinking of earlier turns leaves the prompt."""
    effort: str | None


_wish = msgspec.json.Decoder(ThinkingWish).decode
_text = msgspec.json.Decoder(str).decode


def wishes_of(fields: Fields, *, clears_thinking: bool) -> Wishes:
    """Takes them out of the fields. `clears_thinking`: what holds where the request does not say."""
    wish = value_of(fields, "thinking", _wish, "an object with `type` and maybe `clear_thinking`")
    if wish is not None and wish.type not in ("enabled", "disabled"):
        raise InvalidRequest("`thinking.type` must be `enabled` or `disabled`.", param="thinking")
    effort = value_of(fields, "reasoning_effort", _text, "a string")
    if effort is not None and effort not in EFFORTS:
        raise InvalidRequest(
            f"`reasoning_effort` must be one of {', '.join(EFFORTS)}.", param="reasoning_effort"
        )
    fields.pop("thinking", None)
    fields.pop("reasoning_effort", None)
    return Wishes(
        enabled=None if wish is None else wish.type == "enabled",
        clears=clears_thinking if wish is None or wish.clear_thinking is None else wish.clear_thinking,
        effort=effort,
    )


def check_wishes(wishes: Wishes, deployment: Deployment) -> None:
    """Raises `NotOffered` where a model that always thinks is asked not to."""
    thinking = deployment.thinking
    if thinking is None or thinking.switch is not None or _thinks(wishes, thinking):
        return
    least = f" The least it does is `reasoning_effort: {thinking.efforts[0]}`." if thinking.efforts else ""
    raise NotOffered(
        f"The model {deployment.model!r} always thinks, so it can't be turned off.{least}", param="thinking"
    )


def engine_fields(wishes: Wishes, thinking: Thinking | None) -> dict[str, object]:
    """What the engine's chat template is told."""
    if thinking is None:
        return {}
    thinks = _thinks(wishes, thinking)
    keywords = thinking_keywords(thinking, thinks=thinks)
    if thinking.clear_switch is not None:
        keywords[thinking.clear_switch] = wishes.clears
    fields: dict[str, object] = {"chat_template_kwargs": keywords} if keywords else {}
    if thinks and wishes.effort is not None and thinking.efforts:
        fields["reasoning_effort"] = _nearest(wishes.effort, thinking.efforts)
    return fields


def _thinks(wishes: Wishes, thinking: Thinking) -> bool:
    """Z.ai's models think unless told otherwise."""
    if wishes.enabled is False:
        return False
    if not thinking.efforts:
        # Those that tell no efforts apart take no notice of one.
        return True
    if wishes.effort == "minimal" and thinking.switch is None:
        return True
    return wishes.effort not in OFF


def _nearest(effort: str, offered: list[str]) -> str:
    """The least of those that are offered and not below what was asked for; else the most."""
    place = EFFORTS.index(effort)
    return next((each for each in offered if EFFORTS.index(each) >= place), offered[-1])
