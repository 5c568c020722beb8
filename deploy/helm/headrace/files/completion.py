"""What `helm test` does: one completion through the gateway, with the key of a customer, counted in tokens.

It knows the standard library alone, and exits with 1 and a next step when the answer is not what it should be.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from typing import Any

QUESTION = "What is 17+25?"


def main() -> int:
    try:
        model = os.environ.get("MODEL") or first_model()
        reply = call(
            "/v1/chat/completions",
            {"model": model, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 64},
        )
    except urllib.error.HTTPError as error:
        return failed(f"{error.code} from {error.url}: {error.read(2000).decode(errors='replace')}")
    except (OSError, LookupError, ValueError) as error:
        return failed(f"{type(error).__name__}: {error}")
    message = reply["choices"][0]["message"]
    text = message.get("content") or message.get("reasoning_content") or message.get("reasoning")
    if not text or reply["usage"]["completion_tokens"] < 1:
        return failed(f"no text in {json.dumps(reply)[:2000]}")
    print(f"{model} answered {text.strip()[:200]!r}, {reply['usage']['total_tokens']} tokens")
    return 0


def first_model() -> str:
    models = call("/v1/models")["data"]
    if not models:
        raise LookupError(
            "no model is served to this key: `kubectl get modeldeployments` says which is not ready"
        )
    return str(models[0]["id"])


def call(path: str, body: dict[str, Any] | None = None) -> Any:
    request = urllib.request.Request(
        os.environ["GATEWAY_URL"] + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {os.environ['API_KEY']}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=float(os.environ["TIMEOUT_SECONDS"])) as answer:
        return json.load(answer)


def failed(problem: str) -> int:
    print(problem, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
