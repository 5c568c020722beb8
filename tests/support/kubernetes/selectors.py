"""Label selectors, as far as controllers use them: equality, sets, existence."""

import re
from collections.abc import Callable, Mapping

from tests.support.kubernetes.refusals import Refusal

Labels = Mapping[str, str]

TERM = re.compile(r"[^,(]+(?:\([^)]*\))?")
SET = re.compile(r"(?P<key>\S+)\s+(?P<how>in|notin)\s+\((?P<values>[^)]*)\)")


def selector(text: str) -> Callable[[Labels], bool]:
    """Whether labels match all terms of the text; an empty text matches everything."""
    terms = [_term(term.strip()) for term in TERM.findall(text)]
    return lambda labels: all(term(labels) for term in terms)


def _term(term: str) -> Callable[[Labels], bool]:
    if found := SET.fullmatch(term):
        key, values = found["key"], {value.strip() for value in found["values"].split(",")}
        wanted = found["how"] == "in"
        return lambda labels: (labels.get(key) in values) is wanted
    if "!=" in term:
        key, value = (part.strip() for part in term.split("!="))
        return lambda labels: labels.get(key) != value
    if "=" in term:
        key, value = (part.strip() for part in re.split("==?", term))
        return lambda labels: labels.get(key) == value
    if re.fullmatch(r"!?[\w./-]+", term):
        return lambda labels: (term.lstrip("!") in labels) is not term.startswith("!")
    raise Refusal(400, f"unable to parse requirement: {term!r}")
