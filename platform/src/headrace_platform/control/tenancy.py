"""What keeps tenants apart where Kubernetes does not: whose name a deployment may bear, and who comes first to a quota."""

from collections.abc import Iterable

from headrace_platform.control.capacity import capacity_wanted
from headrace_platform.control.deployment import DeploymentUnreadable, ModelDeployment, decode
from headrace_platform.control.environment import Environment
from headrace_platform.control.labels import Manifest
from headrace_platform.control.violation import Violation


def tenant_violation(deployment: ModelDeployment, namespace_tenant: str | None) -> Violation | None:
    """A namespace belongs to one organisation, or to none: whoever may write in it must not bill another, nor serve
    everybody."""
    org = deployment.spec.tenant_ref.org if deployment.spec.tenant_ref is not None else None
    if org == namespace_tenant:
        return None
    whose = f"the organisation {namespace_tenant}" if namespace_tenant else "no organisation"
    return Violation(
        "tenant_of_another_namespace",
        "spec.tenantRef",
        f"the namespace {deployment.metadata.namespace} belongs to {whose}, by its label headrace.dev/tenant: "
        "use a namespace of the tenant's own",
    )


def held_by_older(
    deployment: ModelDeployment, body: Manifest, others: Iterable[Manifest], environment: Environment
) -> dict[str, int]:
    """Accelerators by profile that the same tenant's deployments may take which were there before.

    Only those: of two that do not fit together the older one stays, whichever is looked at first.
    """
    held: dict[str, int] = {}
    for other_body in others:
        if _age(other_body) > _age(body):
            continue
        try:
            other = decode(other_body)
        except DeploymentUnreadable:
            continue  # it is not accepted, so it takes nothing new
        profile = other.spec.accelerator.profile
        if other.spec.tenant_ref != deployment.spec.tenant_ref or profile not in environment.gpu_profiles:
            continue
        if not other.spec.suspend:
            held[profile] = held.get(profile, 0) + capacity_wanted(other, environment).accelerators
    return held


def _age(body: Manifest) -> tuple[str, str]:
    return body["metadata"]["creationTimestamp"], body["metadata"]["uid"]
