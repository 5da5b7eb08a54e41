"""A certificate authority of the workspace's own, for TLS on loopback: made, kept (0600) and renewed here. Knows no server.

What it signs can name this machine's loopback only (a critical name constraint), so whoever trusts it trusts no
other host through it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from moorings.lib import atomic
from moorings.lib.timing import Clock

HOSTS = ("localhost",)
ADDRESSES = ("127.0.0.1",)
AUTHORITY_DAYS = 3650
SERVER_DAYS = 90
RENEW_AUTHORITY_DAYS = 365
RENEW_SERVER_DAYS = 30
"""A certificate is made anew when it has fewer days left than this."""
BACKDATED_S = 3600
"""Certificates begin in the past, for clients whose clocks are behind."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def pem(self) -> bytes:
        key = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return key + self.certificate.public_bytes(serialization.Encoding.PEM)

    def days_left(self, now: float) -> float:
        return (self.certificate.not_valid_after_utc.timestamp() - now) / 86400


class Certificates:
    """The files below `folder`: `authority.pem`, `server.pem` (both with their keys) and `ca-bundle.pem`."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._clock = clock
        self._authority = folder / "authority.pem"
        self.server_file = folder / "server.pem"
        """Key and certificate, as a TLS server loads them."""
        self.bundle_file = folder / "ca-bundle.pem"
        """Our authority, and those that are trusted without it: a client that trusts this file alone can
        still reach other servers."""

    def renew(self) -> bool:
        """Make whatever is missing, damaged or about to end; whether the server's certificate is another now.

        Raises OSError (the machine's fault).
        """
        now = self._clock.now()
        authority = read_pair(self._authority)
        if authority is None or authority.days_left(now) < RENEW_AUTHORITY_DAYS:
            authority = make_authority(now)
            atomic.write(self._authority, authority.pem(), mode=0o600)
        atomic.write_if_changed(self.bundle_file, _bundle(authority), mode=0o600)
        server = read_pair(self.server_file)
        if (
            server is not None
            and server.days_left(now) >= RENEW_SERVER_DAYS
            and _is_signed_by(server, authority)
        ):
            return False
        atomic.write(self.server_file, make_server(authority, now).pem(), mode=0o600)
        return True

    def context(self) -> ssl.SSLContext:
        """A TLS context of the server's side; `load` puts a renewed certificate into it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load(context)
        return context

    def load(self, context: ssl.SSLContext) -> None:
        """Connections made after this show the certificate that is on disk now."""
        context.load_cert_chain(self.server_file)


def read_pair(path: Path) -> Pair | None:
    """None when there is no usable pair in the file. Raises OSError other than that it is missing."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    with contextlib.suppress(ValueError, TypeError):
        key = serialization.load_pem_private_key(data, password=None)
        certificate = x509.load_pem_x509_certificate(data)
        if isinstance(key, ec.EllipticCurvePrivateKey) and key.public_key() == certificate.public_key():
            return Pair(certificate, key)
    return None


def make_authority(now: float) -> Pair:
    """A new authority that can sign for loopback names only."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Moorings workspace on this machine")
    ours = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.NameConstraints(_permitted(), None), critical=True)
        .add_extension(ours, critical=False)
    )
    return Pair(builder.sign(key, hashes.SHA256()), key)


def make_server(authority: Pair, now: float) -> Pair:
    """A new certificate for the loopback names, signed by `authority`."""
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in HOSTS]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ADDRESSES]
    issuer = authority.certificate
    builder = (
        _builder(_name(HOSTS[0]), issuer.subject, key.public_key(), now, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
    )
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, now: float, days: int
) -> x509.CertificateBuilder:
    begins = datetime.fromtimestamp(now - BACKDATED_S, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=days))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _permitted() -> list[x509.GeneralName]:
    networks = [ipaddress.ip_network(address) for address in ADDRESSES]
    return [*(x509.DNSName(host) for host in HOSTS), *(x509.IPAddress(network) for network in networks)]


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _is_signed_by(server: Pair, authority: Pair) -> bool:
    with contextlib.suppress(Exception):
        server.certificate.verify_directly_issued_by(authority.certificate)
        return True
    return False


def _bundle(authority: Pair) -> bytes:
    """Ours first; then what the machine trusts (its own bundle, else the one of `certifi`).

    The variables by which a shell names another bundle are left alone: they may name this very file.
    """
    ours = authority.certificate.public_bytes(serialization.Encoding.PEM)
    known = ssl.get_default_verify_paths().cafile
    for path in filter(None, (known, certifi.where())):
        with contextlib.suppress(OSError):
            return ours + Path(path).read_bytes()
    return ours
