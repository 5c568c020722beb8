"""Images as a cluster pulls them: by digest, and from its own registry where it has one."""

from headrace_platform.control.deployment import Image, ModelDeployment
from headrace_platform.control.environment import Environment


def engine_image(deployment: ModelDeployment, environment: Environment) -> str:
    chosen: Image = deployment.spec.engine.image or environment.engine_image
    return reference(chosen.repository, chosen.digest, environment)


def reference(repository: str, digest: str, environment: Environment) -> str:
    """By digest; from the cluster's own registry where it has one."""
    if environment.registry is not None:
        host, slash, rest = repository.partition("/")
        named = slash and ("." in host or ":" in host or host == "localhost")
        repository = f"{environment.registry}/{rest if named else repository}"
    return f"{repository}@{digest}"
