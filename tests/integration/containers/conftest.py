"""Image registries of the tests: Debian's own, with a name and a password, or with tokens that another server gives."""

from __future__ import annotations

import base64
import ctypes
import datetime
import http.server
import json
import socket
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

USER, PASSWORD = "ann", "s3cret"
SERVICE, ISSUER = "moorings.test/registry", "moorings.test/tokens"


@dataclass
class Registry:
    address: str
    config: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["docker-registry", "serve", str(self.config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        host, _, port = self.address.partition(":")
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection((host, int(port)), 1).close()
            except OSError:
                assert time.monotonic() < deadline and self.process.poll() is None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


def start_registry(folder: Path, auth: Mapping[str, Any]) -> Registry:
    """A registry that runs, with this `auth` part in its configuration; Debian's package has to be there."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{s.getsockname()[1]}"
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": address},
        **({"auth": auth} if auth else {}),
    }
    (folder / "config.yml").write_text(json.dumps(config))
    made = Registry(address, folder / "config.yml")
    made.start()
    return made


def password_only(folder: Path) -> dict[str, Any]:
    """The `auth` part that lets in `USER` with `PASSWORD` and nobody else."""
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    hashed = crypt(PASSWORD.encode(), b"$2b$05$abcdefghijklmnopqrstuu").decode()
    (folder / "users").write_text(f"{USER}:{hashed.replace('$2b$', '$2y$')}\n")
    return {"htpasswd": {"realm": "test", "path": str(folder / "users")}}


@pytest.fixture(scope="session")
def make_registry(install_package: Any) -> Callable[[Path, Mapping[str, Any]], Registry]:
    """(folder, the `auth` part of its configuration) -> a registry that runs."""

    def make(folder: Path, auth: Mapping[str, Any]) -> Registry:
        install_package("docker-registry", "docker-registry")
        return start_registry(folder, auth)

    return make


@pytest.fixture(scope="module")
def registry(make_registry: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that wants a name and a password (basic authentication)."""
    folder = tmp_path_factory.mktemp("registry")
    made = make_registry(folder, password_only(folder))
    try:
        yield made
    finally:
        made.stop()


class TokenServer:
    """Gives signed tokens for what is asked (the token authentication of registries) to who knows the password."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        """Scopes that tokens were given for."""
        self.refused = 0
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._certificate()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = outer.answer(self.path, self.headers.get("Authorization", ""))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.realm = f"http://127.0.0.1:{self._server.server_address[1]}/token"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if authorization != wanted:
            self.refused += 1
            return 401, b'{"errors": [{"code": "UNAUTHORIZED", "message": "incorrect username or password"}]}'
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
        access = []
        for scope in query.get("scope", []):
            self.asked.append(scope)
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        return 200, json.dumps({"token": self._token(access)}).encode()

    def _token(self, access: list[dict[str, Any]]) -> str:
        now = int(time.time())
        head = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(self._der()).decode()]}
        claims = {
            "iss": ISSUER,
            "aud": SERVICE,
            "sub": USER,
            "nbf": now - 60,
            "exp": now + 300,
            "access": access,
        }
        signed = ".".join(_url64(json.dumps(part).encode()) for part in (head, claims))
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_url64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def _certificate(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, ISSUER)])
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(name, name, self._key.public_key(), 1)
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        authority = x509.BasicConstraints(ca=True, path_length=None)
        return builder.add_extension(authority, critical=True).sign(self._key, hashes.SHA256())

    def _der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


@dataclass
class TokenRegistry:
    registry: Registry
    tokens: TokenServer


@pytest.fixture(scope="module")
def token_registry(make_registry: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenRegistry]:
    """A registry that wants a token of another server."""
    folder = tmp_path_factory.mktemp("tokens")
    tokens = TokenServer()
    (folder / "root.pem").write_bytes(tokens.certificate.public_bytes(Encoding.PEM))
    auth = {
        "realm": tokens.realm,
        "service": SERVICE,
        "issuer": ISSUER,
        "rootcertbundle": str(folder / "root.pem"),
    }
    made = make_registry(folder, {"token": auth})
    try:
        yield TokenRegistry(made, tokens)
    finally:
        made.stop()
        tokens.close()


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
