"""What is wrong with a deployment although its fields are well formed: every rule that needs more than one of them.

Pure and total: any `ModelDeployment` that could be decoded gives a list, and one with an empty list can be rendered.
The operator tells the list in the condition `Accepted`, the command `headrace render` on its error output.
"""

import re
from collections.abc import Iterator, Mapping

from headrace_platform.control.accelerator_rules import accelerator_violations
from headrace_platform.control.deployment import (
    DEPLOYMENT_NAME_CHARACTERS_MAX,
    ModelDeployment,
    TolerationOperator,
)
from headrace_platform.control.engine_arguments import forbidden
from headrace_platform.control.environment import Environment
from headrace_platform.control.model_rules import model_violations, source_violations
from headrace_platform.control.routing_rules import lifecycle_violations, routing_violations
from headrace_platform.control.scaling_rules import scaling_violations, upgrade_violations
from headrace_platform.control.violation import Violation

NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")

LABEL_KEY = re.compile(
    r"([a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9._]{0,61}[A-Za-z0-9])?"
)

RAY_VERSION_MIN = (2, 52, 0)
"""Of Ray's tokens, without which whoever reaches a cluster can run code in it."""


def violations(
    deployment: ModelDeployment, environment: Environment, held: Mapping[str, int] | None = None
) -> list[Violation]:
    """Everything that is wrong; what asks for accelerators last.

    `held` is what the tenant's other deployments may take of each profile's accelerators.
    """
    return [
        *_metadata(deployment),
        *model_violations(deployment),
        *source_violations(deployment, environment),
        *_engine(deployment, environment),
        *scaling_violations(deployment),
        *upgrade_violations(deployment, environment),
        *routing_violations(deployment, environment),
        *lifecycle_violations(deployment),
        *_exposure(deployment, environment),
        *_scheduling(deployment),
        *accelerator_violations(deployment, environment, held or {}),
    ]


def _metadata(deployment: ModelDeployment) -> Iterator[Violation]:
    name = deployment.metadata.name
    if len(name) > DEPLOYMENT_NAME_CHARACTERS_MAX:
        yield Violation(
            "name_too_long",
            "metadata.name",
            f"use at most {DEPLOYMENT_NAME_CHARACTERS_MAX} characters: Ray's clusters add theirs",
        )
    if not NAME.fullmatch(name):
        yield Violation(
            "name_malformed", "metadata.name", "use lower-case letters, digits and dashes, a letter first"
        )
    if len(deployment.metadata.namespace) > 63 or not re.fullmatch(
        r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", deployment.metadata.namespace
    ):
        yield Violation("namespace_malformed", "metadata.namespace", "use a namespace's name")


def _engine(deployment: ModelDeployment, environment: Environment) -> Iterator[Violation]:
    engine = deployment.spec.engine
    if tuple(map(int, engine.ray_version.split("."))) < RAY_VERSION_MIN:
        yield Violation(
            "ray_too_old", "spec.engine.rayVersion", "use Ray 2.52.0 or later: older ones know no tokens"
        )
    for number, argument in enumerate(engine.args):
        name = forbidden(argument, environment.engine_arguments)
        if name is not None:
            yield Violation(
                "engine_argument_forbidden",
                f"spec.engine.args[{number}]",
                f"leave {name} out: it follows from other fields, or the operator's setting `engineArguments` has to "
                "allow it",
            )


def _exposure(deployment: ModelDeployment, environment: Environment) -> Iterator[Violation]:
    path = "spec.exposure.hostname"
    hostname = deployment.spec.exposure.hostname
    if hostname is None:
        return
    if environment.gateway.parent_name is None:
        yield Violation(
            "hostname_unattached",
            path,
            "leave it out, or have the operator's setting `gateway.parentName` name a Gateway",
        )
    tenant = deployment.spec.tenant_ref
    allowed = environment.hostnames.get(tenant.org, ()) if tenant is not None else ()
    if hostname not in allowed:
        # Else one tenant would take another's name, or the gateway's own.
        yield Violation(
            "hostname_forbidden",
            path,
            f"use one that the operator's setting `hostnames` gives the organisation: {', '.join(allowed) or 'none'}",
        )


def _scheduling(deployment: ModelDeployment) -> Iterator[Violation]:
    for key in deployment.spec.scheduling.node_selector:
        if not LABEL_KEY.fullmatch(key):
            yield Violation(
                "node_selector_malformed", "spec.scheduling.nodeSelector", f"{key!r} is no label's name"
            )
    for number, toleration in enumerate(deployment.spec.scheduling.tolerations):
        if (toleration.operator is TolerationOperator.EXISTS) == (toleration.value is not None):
            yield Violation(
                "toleration_malformed",
                f"spec.scheduling.tolerations[{number}].value",
                "goes with the operator Equal, and with that alone",
            )
