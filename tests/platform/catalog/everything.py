"""Every set of weights of every model, on every profile that can run it."""

from dataclasses import dataclass

from headrace_platform.catalog.models import MODELS
from headrace_platform.catalog.placement import DoesNotFit, Placement, place
from headrace_platform.catalog.profiles import PROFILES, Profile
from headrace_platform.catalog.record import ModelRecord


@dataclass(frozen=True)
class Case:
    record: ModelRecord
    profile: Profile
    placement: Placement

    def __str__(self) -> str:
        return f"{self.record.id} {self.placement.format} on {self.profile.id}"


def all_that_fits() -> list[Case]:
    cases = []
    for record in MODELS:
        for profile in PROFILES.values():
            for weights in record.weights:
                try:
                    cases.append(Case(record, profile, place(record, profile, stored=weights.format)))
                except DoesNotFit:
                    continue
    assert len(cases) > len(MODELS)
    return cases
