"""The guide to keys, command by command, on an installation."""

from pathlib import Path

import httpx2

from tests.billing.guides.commands import NEEDS_A_SHELL, run
from tests.billing.seller import Seller


@NEEDS_A_SHELL
async def test_the_guide_makes_changes_rotates_and_ends_keys(address: str, tmp_path: Path) -> None:
    async with httpx2.AsyncClient(base_url=address) as http:
        customer = await Seller(http).customer(credit=None)
    seen = await run("keys.md", address, tmp_path, PROJECT=customer.project)
    made, works, changed, refused, *rest = seen
    assert isinstance(made, dict)
    assert (made["name"], made["version"], made["expires_at"], works) == ("crawler", 1, None, 200)
    assert changed == {"name": "crawler of the shop", "models": ["glm-4.7"], "version": 2}
    assert refused == {"refused": "version_conflict"}
    expiry, rotation, again, account, end = rest[:4], rest[4:7], rest[7:10], rest[10:14], rest[14:]
    assert expiry == [{"expires": True}, 401, {"expires": False}, 200]
    assert rotation == [{"id_stays": True, "until": True}, 200, 200]
    assert again == [401, 200, 200], "two secrets at most"
    assert account == [200, ["builds"], "disabled", 401]
    assert end == ["revoked", 401]
