"""Lists as OpenAI's clients read them."""

from typing import Any


def listed(found: list[dict[str, Any]], *, limit: int) -> dict[str, Any]:
    """`found` is one longer than the page where there is more."""
    page = found[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(found) > limit,
    }
