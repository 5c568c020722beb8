"""The tables of docs/reference/roles.md. Printed by `python -m tests.billing.members.reference`."""

import sys
from collections import defaultdict

from headrace_billing.members.operations import OPERATIONS, Operation, Reach
from headrace_billing.members.permission import Permission, Role, allows


def table() -> str:
    used: dict[Permission, list[str]] = defaultdict(list)
    for name, line in OPERATIONS.items():
        if isinstance(line, Operation):
            used[line.permission].append(f"`{name}`" + ("" if line.reach is Reach.SELLER else "°"))
    rows = [
        "| permission | " + " | ".join(Role) + " | operations |",
        "|---" * (len(Role) + 2) + "|",
    ]
    for permission in Permission:
        marks = " | ".join("✓" if allows(role, permission) else "" for role in Role)
        rows.append(f"| `{permission}` | {marks} | {', '.join(used[permission])} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
