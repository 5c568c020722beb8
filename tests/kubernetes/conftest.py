"""A cluster of its own for each test."""

from collections.abc import AsyncIterator

import pytest

from tests.support.kubernetes.api_server import ApiServer, serving
from tests.support.kubernetes.client import Kubectl, kubectl

WIDGETS = {
    "metadata": {"name": "widgets.example.test"},
    "spec": {
        "group": "example.test",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["w"]},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
                },
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["size"],
                                "properties": {
                                    "size": {"type": "integer", "minimum": 1},
                                    "replicas": {"type": "integer"},
                                    "colour": {"type": "string", "default": "red", "enum": ["red", "blue"]},
                                    "memory": {"x-kubernetes-int-or-string": True},
                                    "plain": {"type": "array", "items": {"type": "string"}},
                                    "ports": {
                                        "type": "array",
                                        "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["name", "protocol"],
                                        "items": {
                                            "type": "object",
                                            "properties": {
                                                "name": {"type": "string"},
                                                "protocol": {"type": "string", "default": "TCP"},
                                                "number": {"type": "integer"},
                                            },
                                        },
                                    },
                                    "options": {"type": "object", "additionalProperties": {"type": "string"}},
                                },
                            },
                            "status": {
                                "type": "object",
                                "properties": {"replicas": {"type": "integer"}, "phase": {"type": "string"}},
                            },
                        },
                    }
                },
            }
        ],
    },
}


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with serving(ApiServer()) as running:
        yield running


@pytest.fixture
async def kube(server: ApiServer) -> AsyncIterator[Kubectl]:
    """With the namespace `shop` and the kind `Widget`."""
    async with kubectl(server.url) as client:
        await client.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", WIDGETS)
        await client.create("/api/v1/namespaces", {"metadata": {"name": "shop"}})
        yield client
