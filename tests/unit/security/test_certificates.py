"""The workspace's own authority: what it signs, for how long, and what clients make of it."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from moorings.lib.timing import ManualClock
from moorings.security.certificates import (
    AUTHORITY_DAYS,
    RENEW_AUTHORITY_DAYS,
    RENEW_SERVER_DAYS,
    SERVER_DAYS,
    Certificates,
    make_authority,
    read_pair,
)

DAY_S = 86400.0
NOW = 1_800_000_000.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def made(tmp_path: Path, clock: ManualClock) -> Certificates:
    certificates = Certificates(tmp_path, clock)
    assert certificates.renew()
    return certificates


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """A whole TLS handshake in memory. Raises ssl.SSLError when the client does not trust the server."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    done = set()
    for _ in range(10):
        for side in (ours, theirs):
            if side in done:
                continue
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
    assert done == {ours, theirs}


def real(tmp_path: Path) -> Certificates:
    """Certificates that are valid now, as TLS libraries look at the machine's clock."""
    from moorings.lib.timing import SystemClock

    certificates = Certificates(tmp_path, SystemClock())
    certificates.renew()
    return certificates


def test_everything_is_for_the_owner_alone(made: Certificates, tmp_path: Path) -> None:
    assert {p.name for p in tmp_path.iterdir()} == {"authority.pem", "server.pem", "ca-bundle.pem"}
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in tmp_path.iterdir())


def test_the_bundle_holds_no_private_key_and_the_usual_authorities_too(made: Certificates) -> None:
    bundle = made.bundle_file.read_bytes()
    assert b"PRIVATE KEY" not in bundle
    assert bundle.count(b"BEGIN CERTIFICATE") > 20


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_a_client_with_the_bundle_trusts_the_server(tmp_path: Path, name: str) -> None:
    certificates = real(tmp_path)
    client = ssl.create_default_context(cafile=str(certificates.bundle_file))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    handshake(certificates.context(), client, name)


def test_a_client_without_the_bundle_or_for_another_name_does_not(tmp_path: Path) -> None:
    certificates = real(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(certificates.context(), ssl.create_default_context(), "localhost")
    client = ssl.create_default_context(cafile=str(certificates.bundle_file))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(certificates.context(), client, "example.org")


def test_the_authority_cannot_vouch_for_other_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever steals its key still cannot pose as another host to those who trust it."""
    monkeypatch.setattr("moorings.security.certificates._permitted", lambda: [x509.DNSName("localhost")])
    monkeypatch.setattr("moorings.security.certificates.HOSTS", ("example.org",))
    certificates = real(tmp_path)
    client = ssl.create_default_context(cafile=str(certificates.bundle_file))
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        handshake(certificates.context(), client, "example.org")


def test_nothing_is_made_anew_while_it_is_good(
    made: Certificates, clock: ManualClock, tmp_path: Path
) -> None:
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    clock.advance((SERVER_DAYS - RENEW_SERVER_DAYS - 1) * DAY_S)
    assert not made.renew()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_the_servers_certificate_is_renewed_long_before_it_ends(
    made: Certificates, clock: ManualClock
) -> None:
    bundle = made.bundle_file.read_bytes()
    clock.advance((SERVER_DAYS - RENEW_SERVER_DAYS + 1) * DAY_S)
    assert made.renew()
    pair = read_pair(made.server_file)
    assert pair is not None and pair.days_left(clock.now()) > RENEW_SERVER_DAYS
    assert made.bundle_file.read_bytes() == bundle, "what clients trust is the same"


def test_the_authority_is_renewed_too_and_signs_anew(made: Certificates, clock: ManualClock) -> None:
    bundle = made.bundle_file.read_bytes()
    clock.advance((AUTHORITY_DAYS - RENEW_AUTHORITY_DAYS + 1) * DAY_S)
    assert made.renew()
    assert made.bundle_file.read_bytes() != bundle
    assert not made.renew()


@pytest.mark.parametrize("name", ["authority.pem", "server.pem"])
@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_damaged_or_missing_files_are_made_anew(
    made: Certificates, tmp_path: Path, name: str, content: bytes | None
) -> None:
    path = tmp_path / name
    path.unlink() if content is None else path.write_bytes(content)
    assert made.renew()
    assert read_pair(path) is not None


def test_a_key_that_does_not_belong_to_its_certificate_is_no_pair(tmp_path: Path) -> None:
    one, other = make_authority(NOW), make_authority(NOW)
    (tmp_path / "mixed.pem").write_bytes(one.pem().partition(b"-----BEGIN CERT")[0] + other.pem())
    found = read_pair(tmp_path / "mixed.pem")
    assert found is None


def test_a_renewed_certificate_is_shown_without_a_restart(tmp_path: Path) -> None:
    certificates = real(tmp_path)
    context = certificates.context()
    certificates.server_file.unlink()
    assert certificates.renew()
    certificates.load(context)
    client = ssl.create_default_context(cafile=str(certificates.bundle_file))
    handshake(context, client, "localhost")
