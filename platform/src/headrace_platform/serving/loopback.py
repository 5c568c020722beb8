"""Keeping the one server of Serve's on loopback that listens everywhere whatever it is told.

Every replica has a port for calls from other deployments. It asks for Ray's token, and nobody calls it here; on
one machine it need not be seen from outside either. Ray 2.60 has no setting for it.
"""

from typing import Any

import ray
from ray._common.tls_utils import add_port_to_grpc_server
from ray.serve._private import replica

LOOPBACK = "127.0.0.1"


def listen_on_loopback_alone() -> None:
    """To be called in a replica while it starts; does nothing where Ray has other machines to talk to."""
    if ray.util.get_node_ip_address() != LOOPBACK:
        return
    assert hasattr(replica, "add_port_to_grpc_server"), (
        "Serve opens its replicas' port otherwise than in 2.60"
    )

    def add_port(server: Any, _address: str) -> Any:
        return add_port_to_grpc_server(server, f"{LOOPBACK}:0")

    replica.add_port_to_grpc_server = add_port
