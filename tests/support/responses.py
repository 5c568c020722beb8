"""What vLLM would write for a reply in OpenAI's responses dialect, with our running counts above its events."""

import uuid
from collections.abc import Iterator
from typing import Any

Event = dict[str, Any]

CUSTOM = "custom_tool_call_input"


class ResponseReply:
    """A response that thinks, then says something or calls a tool."""

    def __init__(
        self,
        *,
        body: Event,
        prompt: int,
        cached: int,
        tokens: int,
        thinking_tokens: int = 0,
        tool: bool = False,
        text: str = "word",
    ) -> None:
        self._body = body
        self._id = f"resp_{uuid.uuid4().hex}"
        self._prompt = prompt
        self._cached = cached
        self._tokens = tokens
        self._thinking = min(thinking_tokens, tokens)
        self._tool = tool
        self._text = text

    def events(self) -> Iterator[tuple[Event, int]]:
        """The events, each with the tokens that the engine has yielded up to it."""
        for number, (event, yielded) in enumerate(self._events()):
            yield event | {"sequence_number": number}, yielded

    def whole(self) -> Event:
        return self._response("completed", [item for item, _, _ in self._items()])

    def counts(self, yielded: int) -> dict[str, Any]:
        return {
            "prompt_tokens": self._prompt,
            "completion_tokens": yielded,
            "prompt_tokens_details": {"cached_tokens": self._cached},
        }

    @property
    def _is_custom(self) -> bool:
        """Whether the tools that it may call take a text, where others take an object."""
        return any(tool["type"] == "custom" for tool in self._body.get("tools", ()))

    def _events(self) -> Iterator[tuple[Event, int]]:
        for kind in ("response.created", "response.in_progress"):
            yield {"type": kind, "response": self._response("in_progress", [])}, 0
        yielded = 0
        for index, (item, kind, words) in enumerate(self._items()):
            place = {"output_index": index, "item_id": item["id"]}
            begun = item | {"status": "in_progress"}
            if kind == "function_call_arguments":
                begun["arguments"] = ""
            elif kind == CUSTOM:
                begun = item | {"input": ""}
            else:
                begun["content"] = [] if kind == "output_text" else None
            yield {"type": "response.output_item.added", "output_index": index, "item": begun}, yielded
            part = {"content_index": 0} | place
            if kind == "output_text":
                empty = {"type": kind, "text": "", "annotations": []}
                yield {"type": "response.content_part.added", "part": empty} | part, yielded
            for word in words:
                yielded += 1
                delta = {"type": f"response.{kind}.delta", "delta": word}
                yield delta | (part if kind.endswith("text") else place), yielded
            if kind == "output_text":
                done = {"type": "response.output_text.done", "text": "".join(words), "logprobs": []}
                yield done | part, yielded
                yield {"type": "response.content_part.done", "part": item["content"][0]} | part, yielded
            yield {"type": "response.output_item.done", "output_index": index, "item": item}, yielded
        yield {"type": "response.completed", "response": self.whole()}, yielded

    def _items(self) -> Iterator[tuple[Event, str, list[str]]]:
        words = [f" {self._text}{number}" for number in range(1, self._tokens + 1)]
        thoughts, said = words[: self._thinking], words[self._thinking :]
        if thoughts:
            content = [{"type": "reasoning_text", "text": "".join(thoughts)}]
            item = {"type": "reasoning", "id": "rs_1", "summary": [], "content": content, "status": None}
            yield item, "reasoning_text", thoughts
        if self._tool and self._is_custom:
            call = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_1", "name": "say"}
            yield call | {"input": "".join(said)}, CUSTOM, said
        elif self._tool:
            pieces = ['{"words":"', *said[2:], '"}']
            call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "say"}
            yield (
                call | {"arguments": "".join(pieces), "status": "completed"},
                "function_call_arguments",
                pieces,
            )
        elif said:
            text: Event = {"type": "output_text", "text": "".join(said), "annotations": [], "logprobs": None}
            message = {"type": "message", "id": "msg_1", "role": "assistant", "content": [text]}
            yield message | {"status": "completed"}, "output_text", said

    def _response(self, status: str, output: list[Event]) -> Event:
        usage = {
            "input_tokens": self._prompt,
            "input_tokens_details": {"cached_tokens": self._cached, "cache_write_tokens": 0},
            "output_tokens": self._tokens,
            "output_tokens_details": {"reasoning_tokens": self._thinking, "tool_output_tokens": 0},
            "total_tokens": self._prompt + self._tokens,
        }
        return {
            "id": self._id,
            "object": "response",
            "created_at": 1_790_000_000,
            "model": self._body["model"],
            "status": status,
            "output": output,
            "previous_response_id": None,
            "instructions": self._body.get("instructions"),
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "top_p": 1.0,
            "tool_choice": "auto",
            "tools": self._body.get("tools", []),
            "max_output_tokens": self._body.get("max_output_tokens", 4096),
            "usage": usage if status == "completed" else None,
        }
