"""Tests that a page names as pytest does, `tests/some/file.py::test_name`, and which of them are not there."""

import ast
import re
from functools import cache

from tests.architecture.tree import ROOT

NAMED = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")


def named_in(text: str) -> list[tuple[str, str]]:
    return NAMED.findall(text)


def missing(text: str) -> list[str]:
    return [f"{path}::{name}" for path, name in named_in(text) if name not in _functions(path)]


@cache
def _functions(path: str) -> frozenset[str]:
    file = ROOT / path
    if not file.exists():
        return frozenset()
    body = ast.parse(file.read_text()).body
    classes = [one for one in body if isinstance(one, ast.ClassDef)]
    inside = {f"{one.name}::{name}" for one in classes for name in _names(one.body)}
    return frozenset(_names(body) | inside)


def _names(body: list[ast.stmt]) -> set[str]:
    return {one.name for one in body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
