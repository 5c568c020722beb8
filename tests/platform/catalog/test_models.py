import pytest

from headrace_platform.catalog.models import GLM_TINY, MODELS, ModelUnknown, find, location
from headrace_platform.catalog.record import HubWeights, fine_tune


def test_every_name_finds_one_model() -> None:
    names = [name for record in MODELS for name in (record.id, *record.aliases)]

    assert len(names) == len(set(names))
    assert [find(record.id) for record in MODELS] == list(MODELS)


def test_an_unknown_name_is_an_error_that_a_caller_can_name() -> None:
    with pytest.raises(ModelUnknown, match="glm-unheard-of") as caught:
        find("glm-unheard-of")

    assert caught.value.code == "model_unknown"


@pytest.mark.parametrize("record", MODELS, ids=lambda record: record.id)
def test_a_record_holds_what_serving_needs(record: object) -> None:
    found = next(candidate for candidate in MODELS if candidate is record)

    assert found.eos_ids
    assert 0 < found.parameters_active < found.parameters
    assert found.dimensions.experts_per_token <= found.dimensions.experts_routed
    assert 0 < found.prompt_overhead_tokens < found.context_tokens
    assert len(found.id) <= 40  # also a name in Kubernetes


def test_a_fine_tune_inherits_all_but_its_weights() -> None:
    weights = HubWeights(repository="acme/glm-tiny-support", revision="0" * 40)
    tuned = fine_tune(
        GLM_TINY, name="glm-tiny-support", revision="1", owned_by="acme", released_at=1, weights=weights
    )

    assert tuned.base == "glm-tiny"
    assert location(tuned) == "acme/glm-tiny-support"
    assert (tuned.tool_parser, tuned.reasoning_parser) == (GLM_TINY.tool_parser, GLM_TINY.reasoning_parser)
    assert tuned.thinking == GLM_TINY.thinking
