"""Rules of the tree that a reader would otherwise have to remember."""

import os
import re
import subprocess
import sys
from pathlib import Path

from importlinter import cli

from tests.architecture.tree import ROOT, text, tracked

SOURCES = ("platform", "gateway", "billing")

# Names that say nothing about what is inside, so that everything ends up there.
EMPTY_NAMES = {"utils", "util", "common", "core", "helpers", "helper", "misc", "service", "manager"}

LINES_MAX = 600
TREE_BYTES_MAX = 60 * 1024 * 1024
CODE = {".py", ".lua", ".sql", ".sh"}

# Spelt so that this file does not break its own rule.
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
SOMEONE_S_FOLDER = re.compile(r"(?<![\w.:/$}-])/(?:wo" r"rk|root|home|Users)/\w")
ADDRESS = re.compile(r"https?://(?!127\.0\.0\.1\b)")


def test_the_standard_library_s_platform_stays_importable_from_the_root() -> None:
    seen = subprocess.run(
        [sys.executable, "-c", "import platform; print(platform.__file__, platform.system())"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert str(ROOT) not in seen


def test_platform_is_no_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_tests_live_under_tests_alone() -> None:
    strays = [
        path
        for path in tracked()
        if path.parts[0] != "tests"
        and path.suffix == ".py"
        and (path.stem.startswith("test_") or path.stem.endswith("_test") or path.stem == "conftest")
    ]
    assert strays == []


def test_every_folder_of_tests_is_a_package() -> None:
    folders = {path.parent for path in tracked() if path.parts[0] == "tests" and path.suffix == ".py"}
    assert [folder for folder in folders if not (ROOT / folder / "__init__.py").exists()] == []


def test_every_name_says_what_is_inside() -> None:
    empty = [
        path
        for path in tracked()
        if path.suffix == ".py"
        and path.parts[0] in (*SOURCES, "tests")
        and EMPTY_NAMES.intersection((*path.parts[:-1], path.stem))
    ]
    assert empty == []


def test_no_file_is_longer_than_one_can_read() -> None:
    long = {
        str(path): lines
        for path in tracked()
        if path.suffix in CODE and "migrations" not in path.parts
        if (lines := len((text(path) or "").splitlines())) > LINES_MAX
    }
    assert long == {}


def test_nothing_is_marked_as_unfinished() -> None:
    assert matching(UNFINISHED, tracked()) == []


def test_no_file_knows_the_machine_that_it_was_written_on() -> None:
    assert matching(SOMEONE_S_FOLDER, tracked()) == []


def test_locks_name_hashes_and_no_addresses() -> None:
    locks = [path for path in tracked() if path.suffix == ".lock"]
    assert locks, "the locks are missing"
    assert matching(ADDRESS, locks) == []
    for lock in locks:
        assert "--hash=sha256:" in (text(lock) or ""), lock


def test_no_package_index_is_chosen_for_whoever_builds_it() -> None:
    building = [
        path
        for path in tracked()
        if path.name in ("pyproject.toml", "Makefile") or path.parts[0] in ("requirements", ".ci")
    ]
    assert matching(ADDRESS, building) == []


def test_the_tree_stays_small_enough_to_clone() -> None:
    assert sum((ROOT / path).stat().st_size for path in tracked()) < TREE_BYTES_MAX


def test_services_meet_only_at_the_contracts() -> None:
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        assert cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0
    finally:
        os.chdir(before)


def matching(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()[:100]}"
        for path in paths
        for number, line in enumerate((text(path) or "").splitlines(), start=1)
        if pattern.search(line)
    ]
