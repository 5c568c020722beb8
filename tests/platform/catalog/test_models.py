from pathlib import Path

import pytest

from headrace_contracts.deployments import Task
from headrace_platform.catalog.models import GLM_TINY, MODELS, ModelUnknown, find, location, near
from headrace_platform.catalog.offer import hearing_offered, image_tokens_max, task_offered
from headrace_platform.catalog.record import Format, FormatMissing, Kind, ModelRecord

SERVED = [record for record in MODELS if record.unserved is None]


def test_every_name_finds_one_model() -> None:
    names = [name for record in MODELS for name in (record.id, *record.aliases)]

    assert len(names) == len(set(names))
    assert [find(record.id) for record in MODELS] == list(MODELS)


def test_every_open_glm_is_known() -> None:
    assert {record.id for record in MODELS} >= {
        *("glm-4.5", "glm-4.5-air", "glm-4.5v", "glm-4.6", "glm-4.6v", "glm-4.6v-flash", "glm-4.7"),
        *("glm-4.7-flash", "glm-5", "glm-5.1", "glm-5.2", "glm-5.3", "glm-5.3-flash", "intellect-3"),
        *("glm-ocr", "glm-asr-nano-2512", "glm-image", "glm-tts", "glm-tiny"),
    }


def test_an_unknown_name_is_an_error_that_a_caller_can_name() -> None:
    with pytest.raises(ModelUnknown, match="glm-unheard-of") as caught:
        find("glm-unheard-of")

    assert caught.value.code == "model_unknown"


@pytest.mark.parametrize(
    ("typed", "meant"), [("glm5.3", "glm-5.3"), ("GLM-4.7", "glm-4.7"), ("intelect3", "intellect-3")]
)
def test_a_mistyped_name_has_near_ones(typed: str, meant: str) -> None:
    assert near(typed)[0] == meant


def test_a_name_like_no_other_has_none_near() -> None:
    assert near("qwerty") == []


@pytest.mark.parametrize("record", SERVED, ids=lambda record: record.id)
def test_a_served_model_has_what_serving_needs(record: ModelRecord) -> None:
    assert record.architecture
    assert record.shape
    assert record.context_tokens
    assert 0 < record.prompt_overhead_tokens < record.context_tokens


def test_what_an_image_costs_at_most_is_known_of_every_model_that_sees_and_of_no_other() -> None:
    assert all((image_tokens_max(record) > 0) == (record.kind is Kind.VISION) for record in SERVED)


def test_what_audio_costs_is_known_of_every_model_that_hears_and_of_no_other() -> None:
    for record in SERVED:
        hearing = hearing_offered(record)
        assert (hearing is not None) == (record.kind is Kind.TRANSCRIPTION)
        assert (task_offered(record) is Task.TRANSCRIBE) == (record.kind is Kind.TRANSCRIPTION)
        if hearing is not None:
            assert record.context_tokens
            heard = hearing.seconds_max * 1000 // hearing.token_milliseconds
            assert heard + record.prompt_overhead_tokens < record.context_tokens, "no room for the transcript"


def test_thinking_is_turned_off_where_the_record_says_and_nowhere_else() -> None:
    by_model = {record.id: record.thinking for record in MODELS}

    assert (thinking := by_model["glm-5.2"])
    assert thinking.switch == "enable_thinking"
    for always in ("glm-5.3", "glm-5.3-flash"):
        assert (thinking := by_model[always])
        assert thinking.by_default
        assert thinking.switch is None
    # Not a guess from its base, whose template it does not have.
    assert by_model["intellect-3"] is None


def test_the_plain_repository_holds_other_weights_from_one_release_to_the_next() -> None:
    assert location(find("glm-5.2"), Format.BF16) == "zai-org/GLM-5.2"
    assert location(find("glm-5.3"), Format.FP8) == "zai-org/GLM-5.3"
    assert location(find("glm-5.3"), Format.BF16) == "zai-org/GLM-5.3-BF16"


def test_weights_that_there_are_none_of_are_an_error() -> None:
    with pytest.raises(FormatMissing, match="glm-tiny has no nvfp4 weights"):
        location(GLM_TINY, Format.NVFP4)


def test_the_size_of_the_shipped_weights_is_the_file_s() -> None:
    assert GLM_TINY.weights[0].size_bytes == Path(location(GLM_TINY), "model.safetensors").stat().st_size
