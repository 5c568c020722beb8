"""What keeps tenants apart where Kubernetes does not: whose name a deployment may bear, and who comes first to a quota."""

from collections.abc import Iterable

import msgspec

from headrace_platform.control.capacity import grants_wanted, together
from headrace_platform.control.deployment import DeploymentUnreadable, ModelDeployment, decode
from headrace_platform.control.environment import Environment
from headrace_platform.control.labels import Manifest
from headrace_platform.control.status import Grants, Status
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


def held_by_others(body: Manifest, others: Iterable[Manifest], environment: Environment) -> dict[str, int]:
    """Accelerators by profile that the tenant's other deployments may take.

    What was granted stays, whoever asks for more of it; of two that ask for the same rest the older one has it,
    whichever is looked at first.
    """
    held: dict[str, int] = {}
    for other in others:
        for grant in _taken(other, environment, is_older=_age(other) < _age(body)):
            held[grant.profile] = held.get(grant.profile, 0) + grant.accelerators
    return held


def _taken(body: Manifest, environment: Environment, *, is_older: bool) -> Grants:
    try:
        status = msgspec.convert(body.get("status", {}), Status)
    except msgspec.ValidationError:
        status = Status()  # somebody's edit, over which ours is written again
    taken = together(status.granted, status.claimed)
    if not is_older or "deletionTimestamp" in body["metadata"]:
        return taken
    try:
        return together(taken, grants_wanted(decode(body), environment))
    except DeploymentUnreadable:
        return taken  # it is not accepted, so it takes nothing new


def org_of(body: Manifest) -> str | None:
    """Of a deployment as it was written, readable or not."""
    tenant = body.get("spec", {}).get("tenantRef")
    org = tenant.get("org") if isinstance(tenant, dict) else None
    return org if isinstance(org, str) else None


def _age(body: Manifest) -> tuple[str, str]:
    return body["metadata"]["creationTimestamp"], body["metadata"]["uid"]
