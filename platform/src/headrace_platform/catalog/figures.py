"""How figures of the catalogue are written for people."""

NOT_KNOWN = "not known"


def short(count: int | None) -> str:
    """A number of parameters in three digits."""
    if count is None:
        return NOT_KNOWN
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)


def tokens(count: int | None) -> str:
    if count is None:
        return NOT_KNOWN
    return f"{count // 1024}K" if count < 2**20 else f"{count // 2**20}M"
