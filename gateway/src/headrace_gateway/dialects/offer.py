"""Whether a model can do at all what a request asks of it: judged before admission, so a refusal costs nothing."""

from collections.abc import Container

from headrace_contracts.deployments import Deployment, Task
from headrace_gateway.dialects.dialect import InferenceRequest
from headrace_gateway.dialects.media import check_media
from headrace_gateway.errors import NotOffered

ELSEWHERE = {Task.EMBED: "/v1/embeddings", Task.TRANSCRIBE: "/v1/audio/transcriptions"}
"""Where models of each kind are asked that don't answer prompts."""

WANTED = {
    Task.GENERATE: "answers prompts",
    Task.EMBED: "makes embeddings",
    Task.TRANSCRIBE: "writes down what is said",
}


def check_offer(request: InferenceRequest, deployment: Deployment, *, image_hosts: Container[str]) -> None:
    if deployment.task is not request.task:
        check_task(deployment, request.task, hearing=bool(request.media.clips))
    check_media(request.media, deployment, hosts=image_hosts)
    request.check(deployment)


def check_task(deployment: Deployment, wanted: Task, *, hearing: bool = False) -> None:
    """`hearing`: whether the prompt has audio in it, which a model that transcribes answers too."""
    offered = deployment.task
    if offered is wanted or (hearing and (offered, wanted) == (Task.TRANSCRIBE, Task.GENERATE)):
        return
    does = WANTED[offered]
    if offered is Task.GENERATE:
        advice = f"{does}. `GET /v1/models` tells which model {WANTED[wanted]}."
    else:
        advice = f"{does} alone. Send its input to `POST {ELSEWHERE[offered]}`."
    raise NotOffered(f"The model {deployment.model!r} {advice}", param="model")
