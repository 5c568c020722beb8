"""What vLLM would write for a recording, in its own shapes (vLLM 0.32, `entrypoints/speech_to_text`)."""

from dataclasses import dataclass
from typing import Any

OPTIONS = ("stream_include_usage", "stream_continuous_usage_stats")


@dataclass(frozen=True, kw_only=True)
class Transcription:
    body: dict[str, Any]
    id: str
    text: str
    prompt: int
    """Tokens of each clip's."""
    tokens: int
    """Said of each clip, at most."""
    clips: int
    finish: str

    def __init__(self, body: dict[str, Any], **said: Any) -> None:
        assert isinstance(body.get("file"), bytes), "a form has a file"
        most = int(body.get("max_completion_tokens") or said["tokens"])
        said |= {"body": body, "tokens": min(said["tokens"], most)}
        for name, value in said.items():
            object.__setattr__(self, name, value)
        assert self.streamed or not any(self._is_set(option) for option in OPTIONS), "as vLLM refuses it"

    @property
    def streamed(self) -> bool:
        return self._is_set("stream")

    @property
    def tells_usage(self) -> bool:
        return self._is_set("stream_include_usage")

    def counts_after(self, number: int) -> tuple[int, int]:
        """Tokens of all prompts that were read by then, and of what was said."""
        return self.prompt * self._clip_of(number), number

    def running_counts(self, number: int, *, cached: int) -> dict[str, Any]:
        """What Headrace's own engine writes above an event; so much of each clip's prompt was cached."""
        prompt, output = self.counts_after(number)
        details = {"cached_tokens": cached * self._clip_of(number)}
        return {"prompt_tokens": prompt, "completion_tokens": output, "prompt_tokens_details": details}

    def chunk(self, number: int, *, counted: bool) -> dict[str, Any]:
        """With the number-th token of all; `counted`: whether usage stands on it, where it was asked for."""
        first, last = number % self.tokens == 1 or self.tokens == 1, number % self.tokens == 0
        between = " " if first and number > 1 else ""
        choice: dict[str, Any] = {"delta": {"content": f"{between} {self.text}{number}"}}
        if last:
            choice |= {"finish_reason": self.finish, "stop_reason": None}
        fields = self._envelope() | {"choices": [choice], "model": self.body["model"]}
        if counted and self.tells_usage and self._is_set("stream_continuous_usage_stats"):
            fields["usage"] = self._usage(number)
        return fields

    def final(self) -> dict[str, Any]:
        return self._envelope() | {
            "choices": [],
            "model": self.body["model"],
            "usage": self._usage(self.tokens * self.clips),
        }

    def whole(self) -> dict[str, Any]:
        return {"text": f" {self.text}", "usage": {"type": "duration", "seconds": 1}}

    def _is_set(self, option: str) -> bool:
        return bool(self.body.get(option) == "true")

    def _clip_of(self, number: int) -> int:
        return -(-number // self.tokens)

    def _envelope(self) -> dict[str, Any]:
        return {"id": f"transcribe-{self.id}", "object": "transcription.chunk", "created": 1_790_000_000}

    def _usage(self, completion: int) -> dict[str, Any]:
        """The prompt is the newest clip's alone."""
        return {
            "prompt_tokens": self.prompt,
            "total_tokens": self.prompt + completion,
            "completion_tokens": completion,
        }
