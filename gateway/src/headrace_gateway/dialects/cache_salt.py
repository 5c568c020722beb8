"""vLLM's `cache_salt`: prompts share a prefix cache only where their salts are equal.

What must stay true: two organisations' salts are never equal, whatever their clients send, so that nobody learns by the
time of a first token, or by the count of cached ones, what another has asked. Within an organisation a client's own salt
keeps its meaning.
"""

from hashlib import blake2b

import msgspec

from headrace_gateway.dialects.fields import Fields

SALT = "cache_salt"
SALT_BYTES = 16
"""Written in hexadecimal: vLLM takes at most 128 characters, and not all of them."""


def salt_of(fields: Fields, org: str) -> msgspec.Raw:
    salt = blake2b(org.encode() + b"\0", digest_size=SALT_BYTES)
    salt.update(bytes(fields.get(SALT, b"")))
    return msgspec.Raw(b'"%b"' % salt.hexdigest().encode())
