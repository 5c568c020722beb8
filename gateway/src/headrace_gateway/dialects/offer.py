"""Whether a model can do at all what a request asks of it: judged before admission, so a refusal costs nothing."""

from collections.abc import Container

from headrace_contracts.deployments import Deployment, Task
from headrace_gateway.dialects.dialect import InferenceRequest
from headrace_gateway.dialects.media import check_images
from headrace_gateway.errors import NotOffered


def check_offer(request: InferenceRequest, deployment: Deployment, *, image_hosts: Container[str]) -> None:
    check_task(deployment, request.task)
    check_images(request.images, deployment, hosts=image_hosts)
    request.check(deployment)


def check_task(deployment: Deployment, wanted: Task) -> None:
    if deployment.task is wanted:
        return
    if wanted is Task.EMBED:
        advice = "answers prompts and makes no embeddings. `GET /v1/models` tells which model does."
    else:
        advice = "makes embeddings alone. Send its input to `POST /v1/embeddings`."
    raise NotOffered(f"The model {deployment.model!r} {advice}", param="model")
