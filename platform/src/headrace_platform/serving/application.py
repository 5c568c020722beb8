"""The Serve application, built from its configuration: the same one on this machine and on Kubernetes.

KubeRay hands `serveConfigV2` to Serve, which imports `build` and lays the configuration's options over what it gets;
`headrace up` has no dashboard to hand a configuration to, and does the same with `configured`.
"""

from typing import Any

from ray import serve

from headrace_platform.catalog.serve import DEPLOYMENT
from headrace_platform.serving.arguments import ApplicationArguments
from headrace_platform.serving.deployment import Replica


def build(args: dict[str, Any]) -> Any:
    """What a configuration's `import_path` names."""
    return _application(args, {})


def configured(config: dict[str, Any]) -> Any:
    """What `serve.run` takes for the one application of a configuration."""
    (application,) = config["applications"]
    (options,) = application["deployments"]
    return _application(application["args"], options)


def _application(args: dict[str, Any], options: dict[str, Any]) -> Any:
    deployment = serve.deployment(Replica, name=DEPLOYMENT)
    return deployment.options(**options).bind(ApplicationArguments.read(args))
