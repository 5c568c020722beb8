"""`.headrace/endpoints.json`: where a running stack is, for whoever wants to use it."""

import msgspec


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    gateway_url: str
    billing_url: str
    console_url: str | None
    api_key: str | None
    """Null until one has been made; the demo and `headrace up` on a fresh state make one."""
    admin_token: str
    database_url: str
    valkey_url: str
    model: str


decode_endpoints = msgspec.json.Decoder(Endpoints).decode
encode_endpoints = msgspec.json.Encoder().encode
