"""The models that Headrace knows. A name finds its record here or nowhere."""

import difflib
from pathlib import Path

from headrace_platform.catalog.files import read_folder
from headrace_platform.catalog.record import Format, ModelRecord

HERE = Path(__file__).parent
WEIGHTS = HERE / "weights"

MODELS = tuple(read_folder(HERE / "records"))

NEAR_NAMES_MAX = 3


class ModelUnknown(KeyError):
    """No record of the catalogue has this id or alias."""

    code = "model_unknown"


def find(name: str) -> ModelRecord:
    """The record with this id or alias. Raises `ModelUnknown`."""
    for record in MODELS:
        if name == record.id or name in record.aliases:
            return record
    raise ModelUnknown(name)


def near(name: str) -> list[str]:
    """Names that someone who typed this may have meant, the likeliest first."""
    names = [name for record in MODELS for name in (record.id, *record.aliases)]
    return difflib.get_close_matches(name.lower(), names, NEAR_NAMES_MAX, cutoff=0.5)


def location(record: ModelRecord, stored: Format | None = None) -> str:
    """What an engine is told to load: a folder on this machine, or a repository's name."""
    weights = record.stored_as(stored)
    return str(WEIGHTS / weights.folder) if weights.folder else str(weights.repository)


GLM_TINY = find("glm-tiny")
