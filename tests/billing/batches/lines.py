"""Lines of a batch's file."""

import json
from typing import Any, Literal

from tests.billing.seller import MODEL

CHAT: Literal["/v1/chat/completions"] = "/v1/chat/completions"


def line(custom_id: str = "a", *, model: str = MODEL, **changes: Any) -> dict[str, object]:
    body = {"model": model, "messages": [{"role": "user", "content": f"say {custom_id}"}]}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body, **changes}


def jsonl(*lines: object) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in lines)
