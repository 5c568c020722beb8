from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from headrace_platform.catalog.engine import engine_arguments
from headrace_platform.catalog.models import GLM_TINY, ModelUnknown, find
from headrace_platform.catalog.placement import DoesNotFit, Placement, place
from headrace_platform.catalog.profiles import LOCAL_CPU, Profile, find_profile
from headrace_platform.catalog.serve import (
    DEPLOYMENT,
    IMPORT_PATH,
    application_arguments,
    deployment_options,
    placed,
    serve_config,
    usual_scaling,
)
from tests.platform.catalog.everything import all_that_fits


def configured(model: str, profile: str, **chosen: Any) -> dict[str, Any]:
    """The configuration's one application, of the smallest placement."""
    record, on = find(model), find_profile(profile)
    placement = place(record, on)
    config = serve_config(record, on, placement, usual_scaling(placement, **chosen), deployment="acme/glm")
    (application,) = config["applications"]
    assert isinstance(application, dict)
    return application


def arguments_of(profile: Profile, placement: Placement) -> dict[str, Any]:
    return dict(application_arguments(profile, placement, deployment="x"))


def test_eight_h200_are_given_to_one_replica_that_has_them_alone() -> None:
    application = configured("glm-5.3", "h200", min_replicas=1, max_replicas=3)
    (deployment,) = application["deployments"]

    assert application["import_path"] == IMPORT_PATH == "headrace_platform.serving.application:build"
    assert application["route_prefix"] == "/"
    assert deployment["name"] == DEPLOYMENT
    assert deployment["ray_actor_options"] == {"num_cpus": 4.0, "num_gpus": 8}
    assert "placement_group_bundles" not in deployment
    assert deployment["autoscaling_config"]["max_replicas"] == 3
    assert deployment["max_ongoing_requests"] == 2 * 54


def test_a_replica_over_two_nodes_has_a_bundle_a_gpu_and_shares_the_first() -> None:
    (deployment,) = configured("glm-5.3", "h100")["deployments"]

    assert deployment["placement_group_bundles"] == [{"GPU": 1, "CPU": 4.0}, *[{"GPU": 1}] * 15]
    assert deployment["placement_group_strategy"] == "PACK"
    assert deployment["ray_actor_options"] == {"num_cpus": 4.0, "num_gpus": 0}


def test_the_tiny_model_on_this_machine_is_configured_in_the_same_way() -> None:
    application = configured("glm-tiny", "local-cpu")
    (deployment,) = application["deployments"]

    assert deployment["ray_actor_options"] == {"num_cpus": 0.5}
    assert deployment["autoscaling_config"]["target_ongoing_requests"] == 8
    assert deployment["max_ongoing_requests"] == 32
    assert set(application["args"]) == set(configured("glm-5.3", "h200")["args"])


def test_what_a_model_needs_of_its_environment_reaches_its_replicas() -> None:
    (deployment,) = configured("glm-5.3-flash", "h200")["deployments"]

    assert deployment["ray_actor_options"]["runtime_env"] == {
        "env_vars": {"VLLM_ENGINE_READY_TIMEOUT_S": "3600"}
    }


def test_arguments_are_flat_and_of_plain_values() -> None:
    arguments = configured("glm-5.3", "h200")["args"]

    assert {type(value) for value in arguments.values()} <= {str, int, float, bool}
    assert (arguments["model"], arguments["deployment"]) == ("glm-5.3", "acme/glm")


def test_another_scale_is_no_other_application() -> None:
    # Serve starts every replica anew where the arguments are others.
    assert (
        configured("glm-tiny", "local-cpu")["args"]
        == configured("glm-tiny", "local-cpu", max_replicas=9)["args"]
    )


def test_settings_that_do_not_follow_from_the_catalogue_go_beside_it() -> None:
    placement = place(GLM_TINY, LOCAL_CPU)
    config = serve_config(
        GLM_TINY,
        LOCAL_CPU,
        placement,
        usual_scaling(placement),
        deployment="x",
        host="127.0.0.1",
        proxies="HeadOnly",
        more_arguments={"records_url": "http://127.0.0.1:1/internal/v1/engine-records"},
    )

    assert config["http_options"] == {"host": "127.0.0.1", "port": 8000}
    assert config["proxy_location"] == "HeadOnly"
    assert config["applications"][0]["args"]["records_url"].endswith("engine-records")


def test_whoever_reads_the_arguments_starts_the_engine_that_was_planned() -> None:
    for case in all_that_fits():
        found, on, where = placed(arguments_of(case.profile, case.placement))

        assert where == case.placement
        assert engine_arguments(found, on, where) == engine_arguments(
            case.record, case.profile, case.placement
        )


def test_nodes_with_fewer_gpus_than_usual_are_remembered_in_the_arguments() -> None:
    half = structs.replace(find_profile("h200"), gpus_a_node=4)
    placement = place(structs.replace(find("glm-5.3"), minimums=()), half)

    assert placed(arguments_of(half, placement))[2].nodes == placement.nodes == 2


def test_arguments_of_a_model_that_this_release_does_not_know_are_refused() -> None:
    arguments = arguments_of(LOCAL_CPU, place(GLM_TINY, LOCAL_CPU))

    with pytest.raises(ModelUnknown):
        placed(arguments | {"model": "glm-6"})
    with pytest.raises(DoesNotFit):
        placed(arguments | {"context_tokens": 10**6})


def test_a_deployment_can_begin_with_no_replica() -> None:
    placement = place(GLM_TINY, LOCAL_CPU)
    scaling = replace(usual_scaling(placement), min_replicas=0)

    config = deployment_options(GLM_TINY, LOCAL_CPU, placement, scaling)["autoscaling_config"]

    assert (config["min_replicas"], config["initial_replicas"]) == (0, 0)
