"""What vLLM would write for a reply in Anthropic's messages dialect, with our running counts above its events."""

import json
from collections.abc import Iterator
from typing import Any

Event = dict[str, Any]


class Messages:
    """A message whose blocks have so many tokens each; all but the last block are thinking."""

    def __init__(
        self,
        *,
        request_id: str,
        model: str,
        prompt: int,
        cached: int,
        tokens: int,
        thinking_tokens: int = 0,
        tool: bool = False,
        text: str = "word",
    ) -> None:
        self._request_id = request_id
        self._model = model
        self._prompt = prompt
        self._cached = cached
        self._tokens = tokens
        self._thinking = min(thinking_tokens, tokens)
        self._tool = tool
        self._text = text

    def events(self) -> Iterator[tuple[Event, int]]:
        """The events, each with the tokens that the engine has yielded up to it."""
        start = self._message([], None) | {"usage": {"input_tokens": self._prompt, "output_tokens": 0}}
        # The engine's first token is there before the first event leaves.
        yield {"type": "message_start", "message": start}, min(1, self._tokens)
        yielded = 0
        for index, (block, deltas) in enumerate(self._blocks()):
            yield {"type": "content_block_start", "index": index, "content_block": block}, yielded + 1
            for delta in deltas:
                yielded += 1
                yield {"type": "content_block_delta", "index": index, "delta": delta}, yielded
            yield {"type": "content_block_stop", "index": index}, yielded
        end = {"stop_reason": self._stop_reason, "stop_sequence": None}
        yield {"type": "message_delta", "delta": end, "usage": self.usage()}, yielded
        yield {"type": "message_stop"}, yielded

    def whole(self) -> Event:
        content = []
        for block, deltas in self._blocks():
            said = "".join(delta.get("text") or delta.get("thinking") or "" for delta in deltas)
            match block["type"]:
                case "tool_use":
                    arguments = "".join(delta["partial_json"] for delta in deltas)
                    content.append(block | {"input": json.loads(arguments)})
                case kind:
                    content.append(block | {kind: said})
        return self._message(content, self._stop_reason) | {"usage": self.usage()}

    def usage(self) -> dict[str, int]:
        """Anthropic's: what was cached stands beside the rest of the prompt."""
        return {
            "input_tokens": self._prompt - self._cached,
            "output_tokens": self._tokens,
            "cache_read_input_tokens": self._cached,
        }

    def counts(self, yielded: int) -> dict[str, Any]:
        """OpenAI's: what was cached is inside the prompt."""
        return {
            "prompt_tokens": self._prompt,
            "completion_tokens": yielded,
            "prompt_tokens_details": {"cached_tokens": self._cached},
        }

    @property
    def _stop_reason(self) -> str:
        return "tool_use" if self._tool else "end_turn"

    def _blocks(self) -> Iterator[tuple[Event, list[Event]]]:
        words = [f" {self._text}{number}" for number in range(1, self._tokens + 1)]
        thoughts, said = words[: self._thinking], words[self._thinking :]
        if thoughts:
            deltas = [{"type": "thinking_delta", "thinking": word} for word in thoughts]
            yield {"type": "thinking", "thinking": "", "signature": "s"}, deltas
        if self._tool:
            pieces = ['{"words":"', *said[2:], '"}']
            block = {"type": "tool_use", "id": "call_1", "name": "say", "input": {}}
            yield block, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        elif said:
            yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": word} for word in said]

    def _message(self, content: list[Event], stop_reason: str | None) -> Event:
        return {
            "id": f"chatcmpl-{self._request_id}",
            "type": "message",
            "role": "assistant",
            "content": content,
            "model": self._model,
            "stop_reason": stop_reason,
            "stop_sequence": None,
        }
