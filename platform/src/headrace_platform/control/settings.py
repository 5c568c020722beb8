"""What the operator is told: environment variables `HEADRACE_OPERATOR_<NAME>`, each with its unit and reason."""

from pathlib import Path
from typing import Any, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class OperatorSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="HEADRACE_OPERATOR_", frozen=True, hide_input_in_errors=True)

    @classmethod
    def from_environment(cls) -> Self:
        given_otherwise: dict[str, Any] = {}
        return cls(**given_otherwise)

    # A YAML `Environment`: the cluster owner's say on nodes, quotas and neighbours.
    environment: Path
    # Our own namespace, where the lease and the records of GPU time are.
    namespace: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    # Who we are among the operator's pods; the pod's name.
    identity: str = Field(min_length=1, max_length=253)
    # Those that we look after, separated by commas; empty for all.
    namespaces: str = ""

    # Loopback for development; in a cluster the pod's own service account says where.
    api_url: str = "https://kubernetes.default.svc"
    api_token_file: Path | None = SERVICE_ACCOUNT / "token"
    api_ca_file: Path | None = SERVICE_ACCOUNT / "ca.crt"

    # Where the model of a {cluster} in a {namespace} is asked for its first completion. As the gateway does it where
    # absent; for an operator outside of the cluster's network, a way in, such as the API server's proxy of services.
    endpoint_url: str | None = None

    # Where the head of a {cluster} in a {namespace} tells its metrics, the number of replicas among them. KubeRay's
    # service of it where absent.
    metrics_url: str | None = None

    # `/healthz`; the kubelet asks from outside the pod.
    health_host: str = "127.0.0.1"
    health_port: int = Field(default=8082, ge=1, le=65535)

    # With more than one pod of the operator: one works, the others wait for its lease to run out. Off, one alone
    # works at once; two by mistake write the same things, for every write is an apply or has a version.
    leases: bool = True

    # How long a changed ConfigMap takes to reach every gateway: the kubelet's sync period of a minute, its cache's
    # minute, and the gateway's own second.
    route_propagation_seconds: float = Field(default=125.0, ge=0)

    # Where GPU time is sent; without it, it is recorded and kept.
    billing_url: str | None = None
    ingest_token: SecretStr | None = None
    # How far a pod's end may be off that nobody saw; one write a deployment in that time.
    gpu_time_observe_seconds: float = Field(default=60.0, ge=0.1)
    # How often what is whole is sent.
    gpu_time_ship_seconds: float = Field(default=60.0, ge=0.1)

    @model_validator(mode="after")
    def _billing(self) -> Self:
        if (self.billing_url is None) != (self.ingest_token is None):
            msg = "billing_url and ingest_token go together"
            raise ValueError(msg)
        return self

    @property
    def watched(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.namespaces.split(",") if name.strip())
