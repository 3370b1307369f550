"""Certificates for the bus: the operator's, or from an authority that is made for this only."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE = timedelta(days=825)
RENEW_BEFORE_END = timedelta(days=60)
CLOCK_SKEW = timedelta(hours=1)
FILES = ("ca.pem", "server.pem", "server.key")


class Store(Protocol):
    """Where certificates are kept."""

    def given(self, name: str) -> str | None: ...

    def read(self, owner: str, name: str) -> str | None: ...

    def write(self, owner: str, name: str, content: str) -> None: ...


def make_certificates(store: Store, names: Sequence[str]) -> str:
    """Give the bus a certificate for its names; return the authority's certificate.

    The operator's ``nats_ca.pem``, ``nats_server.pem`` and ``nats_server.key`` come first. Existing
    certificates stay until they are about to expire or lack a name.
    """
    given = {file: store.given(f"nats_{file}") for file in FILES}
    if any(given.values()):
        missing = [f"nats_{file}" for file, content in given.items() if content is None]
        if missing:
            raise SystemExit(f"certificates were given without {', '.join(missing)}")
        made = {file: content or "" for file, content in given.items()}
    elif _is_good(store.read("nats", "server.pem"), names):
        made = {file: store.read("nats", file) or "" for file in FILES}
    else:
        made = _new(names)
    for file, content in made.items():
        store.write("nats", file, content)
    return made["ca.pem"]


def _is_good(certificate: str | None, names: Sequence[str]) -> bool:
    if certificate is None:
        return False
    read = x509.load_pem_x509_certificate(certificate.encode())
    known = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    is_lasting = read.not_valid_after_utc - datetime.now(UTC) > RENEW_BEFORE_END
    return is_lasting and set(names) <= set(known.get_values_for_type(x509.DNSName))


def _new(names: Sequence[str]) -> dict[str, str]:
    """A new authority and the one certificate that it signs; the authority's key is not kept."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    server_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _name("Hubbub's bus")
    authority = (
        _builder(authority_name, authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    # For clients too, as the servers of a cluster connect to each other.
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    server = (
        _builder(_name(names[0]), authority_name, server_key.public_key())
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(issuer, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    key = server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {
        "ca.pem": authority.public_bytes(Encoding.PEM).decode(),
        "server.pem": server.public_bytes(Encoding.PEM).decode(),
        "server.key": key.decode(),
    }


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFE)
        # Python 3.13 insists on both identifiers (RFC 5280, section 4.2.1).
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
