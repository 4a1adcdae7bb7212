"""Servers with certificates that are not trusted, expired, or of another host: real TLS with certificates made here."""

import ipaddress
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from batchgen.errors import ModelError
from batchgen.run.run import run
from tests.engines.openai.fake_server import serving

MakeJob = Callable[..., Path]


def certificate(folder: Path, *, address: str = "127.0.0.1", days: int = 2) -> Path:
    """A self-signed certificate with its key, for an address, which is valid from three days ago for `days` more or fewer."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "batchgen test")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=3))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return file


def context(file: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(file)
    return made


def test_a_self_signed_certificate_is_named_with_the_way_to_trust_it(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = certificate(tmp_path)
    with serving(tls=context(file)) as server:
        assert server.url.startswith("https://")
        job = make_job([{"q": "hello"}], model={"engine": "openai", "base_url": server.url})
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        with pytest.raises(ModelError, match="certificate is not trusted: self-signed") as caught:
            run(job)
        assert "Set SSL_CERT_FILE to a PEM file" in caught.value.hint
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        result = run(job)
    assert result.exit_code == 0
    assert result.frame()["response"].to_list() == ["re: hello"]


@pytest.mark.parametrize(
    ("address", "days", "why", "hint"),
    [
        ("127.0.0.1", -1, "certificate has expired", "Renew the server's certificate"),
        ("127.0.0.2", 2, "IP address mismatch", "Write base_url with a host"),
    ],
)
def test_a_certificate_that_trust_does_not_mend(
    make_job: MakeJob,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    days: int,
    why: str,
    hint: str,
) -> None:
    file = certificate(tmp_path, address=address, days=days)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with serving(tls=context(file)) as server:
        job = make_job([{"q": "hello"}], model={"engine": "openai", "base_url": server.url})
        with pytest.raises(ModelError, match=f"is not trusted: {why}") as caught:
            run(job)
    assert caught.value.hint.startswith(hint)
