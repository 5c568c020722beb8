"""How a chat template is told whether to have its model think: the same whichever dialect asked."""

from headrace_contracts.deployments import Thinking


def thinking_keywords(thinking: Thinking, *, thinks: bool) -> dict[str, bool]:
    """Empty where the model does so by itself, or can't be told."""
    if thinking.switch is None or thinks is thinking.by_default:
        return {}
    return {thinking.switch: thinks}
