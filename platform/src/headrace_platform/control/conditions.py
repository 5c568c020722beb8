"""From what is seen of a deployment to the conditions that its owner reads. Pure.

What must stay true: `lastTransitionTime` changes when a status does and at no other moment; every condition that is
not as it should be says in its message what to do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from headrace_platform.control.probe import Answered
from headrace_platform.control.ray_state import RayState
from headrace_platform.control.status import Condition, ConditionStatus, ConditionType
from headrace_platform.control.violation import Violation
from headrace_platform.control.workers import Hindrance, Workers

MESSAGE_CHARACTERS_MAX = 2000


@dataclass(frozen=True, slots=True)
class View:
    """All that the conditions depend on."""

    violations: Sequence[Violation] = ()
    quota_problem: str | None = None
    suspended: bool = False
    leaving: bool = False
    awaits_window: bool = False
    needs_source: bool = True
    """The weights are not inside the image."""
    workers: Workers = field(default_factory=Workers)
    clusters: Mapping[str, RayState] = field(default_factory=dict)
    """Every cluster that there should be, by its RayService's name."""
    probes: Mapping[str, Answered] = field(default_factory=dict)
    """The last answers; none of a cluster that was never asked."""
    routed: frozenset[str] = frozenset()
    """Clusters that the gateway sends requests to."""


@dataclass(frozen=True, slots=True)
class Finding:
    status: ConditionStatus
    reason: str
    message: str = ""


def _true(reason: str, message: str = "") -> Finding:
    return Finding(ConditionStatus.TRUE, reason, message)


def _false(reason: str, message: str = "") -> Finding:
    return Finding(ConditionStatus.FALSE, reason, message)


def _unknown(reason: str, message: str = "") -> Finding:
    return Finding(ConditionStatus.UNKNOWN, reason, message)


_NOT_MADE = _false("NotMade", "nothing has been made of it yet.")


def findings(view: View) -> dict[ConditionType, Finding]:
    found = {
        ConditionType.ACCEPTED: _accepted(view),
        ConditionType.SOURCE_READY: _source(view),
        ConditionType.CAPACITY_AVAILABLE: _capacity(view),
        ConditionType.CLUSTER_READY: _cluster(view),
        ConditionType.SERVE_READY: _serve(view),
        ConditionType.ENDPOINT_READY: _endpoint(view),
        ConditionType.UPGRADE_IN_PROGRESS: _upgrade(view),
        ConditionType.DEGRADED: _degraded(view),
    }
    return {**found, ConditionType.READY: _ready(view, found)}


def conditions(
    found: Mapping[ConditionType, Finding], before: Sequence[Condition], *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    known = {condition.type: condition for condition in before}
    return tuple(
        Condition(
            type=kind,
            status=finding.status,
            reason=finding.reason,
            message=finding.message[:MESSAGE_CHARACTERS_MAX],
            last_transition_time=(
                known[kind].last_transition_time
                if kind in known and known[kind].status is finding.status
                else timestamp(now)
            ),
            observed_generation=generation,
        )
        for kind, finding in found.items()
    )


def leaving(before: Sequence[Condition], *, generation: int, now: datetime) -> tuple[Condition, ...]:
    """Of a deployment that is being deleted: as they were, but that it serves nobody."""
    gone = _false("Deleting", "its route is gone; it goes when its last requests are finished.")
    news = {ConditionType.ENDPOINT_READY: gone, ConditionType.READY: gone}
    return _updated(before, news, generation=generation, now=now)


def unreadable(
    before: Sequence[Condition], why: Violation, *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Of one that can't be judged: as they were, but that it is not accepted."""
    refused = _accepted(View(violations=(why,)))
    news = {ConditionType.ACCEPTED: refused, ConditionType.READY: refused}
    return _updated(before, news, generation=generation, now=now)


def _updated(
    before: Sequence[Condition], news: Mapping[ConditionType, Finding], *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    known = {
        condition.type: Finding(condition.status, condition.reason, condition.message) for condition in before
    }
    return conditions({**known, **news}, before, generation=generation, now=now)


def timestamp(moment: datetime) -> str:
    """As Kubernetes writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _accepted(view: View) -> Finding:
    if not view.violations:
        return _true("Accepted")
    message = "; ".join(f"{violation.path}: {violation.message}" for violation in view.violations)
    return _false(view.violations[0].reason, message)


def _source(view: View) -> Finding:
    if problem := _hindrance(view, Hindrance.WEIGHTS_UNAVAILABLE):
        return _false(Hindrance.WEIGHTS_UNAVAILABLE, f"{problem}. Mend the source, or what it refers to.")
    if not view.needs_source:
        return _true("InImage")
    return _true("Fetched") if view.workers.has_weights else _unknown("NotFetchedYet")


def _capacity(view: View) -> Finding:
    if view.quota_problem is not None:
        return _false("QuotaExceeded", view.quota_problem)
    if problem := _hindrance(view, Hindrance.UNSCHEDULABLE):
        return _false(
            Hindrance.UNSCHEDULABLE, f"{problem} Add nodes of the profile, or ask for fewer replicas."
        )
    return _true("Scheduled") if view.workers.pods else _unknown("NothingToSchedule")


def _cluster(view: View) -> Finding:
    if view.suspended:
        return _false("Suspended", "spec.suspend is set; unset it to serve again.")
    if problem := _hindrance(view, Hindrance.CONTAINER_FAILING):
        return _false(Hindrance.CONTAINER_FAILING, f"{problem}. Look at the container's log.")
    if not view.clusters:
        return _NOT_MADE
    missing = _names(view, lambda state: not state.is_cluster_ready)
    return _false("Provisioning", f"not up yet: {missing}") if missing else _true("Provisioned")


def _serve(view: View) -> Finding:
    if view.suspended:
        return _false("Suspended")
    if not view.clusters:
        return _NOT_MADE
    failures = [f"{name}: {state.failure}" for name, state in view.clusters.items() if state.failure]
    missing = _names(view, lambda state: not state.is_serving)
    if not missing:
        return _true("Serving")
    if failures:
        return _false("DeployFailed", f"{'; '.join(failures)}. Look at the log of Serve's controller.")
    return _false("Starting", f"not serving yet: {missing}")


def _endpoint(view: View) -> Finding:
    if view.leaving:
        return _false("Draining", "its route is gone and its last requests are being finished.")
    if view.suspended:
        return _false("Suspended")
    if not view.clusters:
        return _NOT_MADE
    failed = [
        f"{name}: {a.problem}" for name, a in view.probes.items() if not a.is_good and name in view.clusters
    ]
    if failed:
        return _false(
            "ProbeFailed", f"{'; '.join(failed)}. Nothing is sent to a cluster before it has answered."
        )
    missing = [name for name in view.clusters if name not in view.probes or name not in view.routed]
    return _false("NotProven", f"no answer yet: {', '.join(missing)}") if missing else _true("Answered")


def _upgrade(view: View) -> Finding:
    if view.awaits_window:
        return _false(
            "AwaitingWindow", "what has changed needs a new cluster, which spec.upgrade.window allows later."
        )
    if names := _names(view, lambda state: state.is_rolling_back):
        return _true("RollingBack", f"back to the cluster before: {names}")
    if names := _names(view, lambda state: state.is_upgrading):
        shares = [
            f"{name} sends {state.traffic_percent} % to it"
            for name, state in view.clusters.items()
            if state.traffic_percent is not None
        ]
        return _true("NewCluster", "; ".join([f"a new cluster starts beside: {names}", *shares]))
    return _false("UpToDate")


def _degraded(view: View) -> Finding:
    serving = view.routed.intersection(view.clusters)
    if not serving or view.leaving:
        return _false("AsPlanned")
    if names := _names(view, lambda state: not state.is_serving):
        return _true("ClusterNotServing", f"the gateway sends requests to it all the same: {names}")
    if failed := [name for name in serving if name in view.probes and not view.probes[name].is_good]:
        return _true("ProbeFailed", f"last probe failed: {', '.join(sorted(failed))}")
    if view.workers.ready < view.workers.pods and not any(s.is_upgrading for s in view.clusters.values()):
        return _true("WorkersNotReady", f"{view.workers.ready} of {view.workers.pods} worker pods are ready")
    return _false("AsPlanned")


def _ready(view: View, found: Mapping[ConditionType, Finding]) -> Finding:
    if view.leaving and not view.violations:
        return found[ConditionType.ENDPOINT_READY]
    needed = (
        ConditionType.ACCEPTED,
        ConditionType.CLUSTER_READY,
        ConditionType.SERVE_READY,
        ConditionType.ENDPOINT_READY,
    )
    # The reason nearest to what its owner can change comes first.
    for kind in (ConditionType.CAPACITY_AVAILABLE, ConditionType.SOURCE_READY):
        if found[kind].status is ConditionStatus.FALSE and any(
            found[other].status is not ConditionStatus.TRUE for other in needed
        ):
            return _false(found[kind].reason, found[kind].message)
    for kind in needed:
        if found[kind].status is not ConditionStatus.TRUE:
            return _false(found[kind].reason, found[kind].message)
    return _true("Serving")


def _hindrance(view: View, kind: Hindrance) -> str:
    return dict(view.workers.hindrances).get(kind, "")


def _names(view: View, matches: Callable[[RayState], bool]) -> str:
    return ", ".join(name for name, state in view.clusters.items() if matches(state))
