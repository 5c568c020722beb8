"""Engines that speak TLS: read as the others are, and only where their certificate is one to trust."""

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from headrace_gateway.routing.upstream.errors import Unreachable
from tests.gateway.routing.upstream.test_client import HELLO, MUCH, asked, says, serving, upstream, whole

CERTIFICATE = (
    *("openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=engine"),
    *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-addext", "subjectAltName=IP:127.0.0.1"),
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes a certificate, is not installed")
    folder = tmp_path_factory.mktemp("tls")
    key, made, both = folder / "key.pem", folder / "certificate.pem", folder / "both.pem"
    subprocess.run([*CERTIFICATE, "-keyout", key, "-out", made], check=True, capture_output=True)
    both.write_bytes(made.read_bytes() + key.read_bytes())
    return both


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_replies_are_read_and_the_connection_used_again(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with serving(*[says(HELLO[:-1], HELLO[-1:])] * 3, tls=tls) as server:
        client = upstream()
        for gathered in (False, True, True):
            reply = await asked(client, server)
            if gathered:
                # What the socket has are records, so nobody but the transport may read it.
                reply.gather()
            assert (reply.status, await reply.read_all(bytes_max=MUCH)) == (200, b"hello")
            reply.close()
        client.close()
    assert server.connections == 1


async def test_an_engine_that_nobody_vouches_for_is_not_told_anything(tls: ssl.SSLContext) -> None:
    async with serving(says(HELLO), tls=tls) as server:
        client = upstream()
        with pytest.raises(Unreachable, match="certificate"):
            await whole(client, server)
        client.close()
    assert server.requests == []
