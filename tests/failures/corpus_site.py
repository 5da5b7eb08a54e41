"""What the failure corpus borrows from other tests: workspaces, a Docker Engine, registries (test folders are no
packages)."""

from __future__ import annotations

import base64
import http.server
import importlib.util
import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

TESTS = Path(__file__).parents[1]
MACHINE = {"capacity": {"vcpus": 4, "memory_gib": 24}}
"""A size of its own: what is too large on one machine is so on all."""


def borrowed(file: str, name: str) -> ModuleType:
    """The module in `file` of the tests, under a name of its own."""
    spec = importlib.util.spec_from_file_location(name, TESTS / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def workspace_with(settings: Any, env: Mapping[str, str] | None = None) -> Iterator[Any]:
    """A workspace of the end-to-end tests; nothing of it is left afterwards. `env`: variables of its commands."""
    made, base = (
        borrowed("e2e/conftest.py", "moorings_corpus_workspaces"),
        Path(tempfile.mkdtemp(prefix="moor-corpus-")),
    )
    workspace = made.make_workspace(base, settings)
    workspace.env.update(env or {})
    try:
        try:
            yield workspace
        except BaseException:
            workspace.moor(
                "workspace", "stop", check=False
            )  # what went wrong is told, not what is left of it
            raise
        made.end(workspace)
    finally:
        shutil.rmtree(base, ignore_errors=True)


class _Web(http.server.BaseHTTPRequestHandler):
    """Has nothing, and below `/private` it says so to nobody."""

    def do_GET(self) -> None:
        self.send_error(401 if self.path.startswith("/private/") else 404)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def workspace_of_processes() -> Iterator[tuple[Any, dict[str, str]]]:
    """(a workspace, addresses by name): `web` is a web server that has nothing, and tells that only to some."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Web) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with workspace_with(MACHINE) as workspace:
                yield workspace, {"web": f"http://127.0.0.1:{server.server_address[1]}"}
        finally:
            server.shutdown()


@contextmanager
def workspace_of_containers(dockerd: Any) -> Iterator[tuple[Any, dict[str, str]]]:
    """(a workspace on a Docker Engine of the tests, addresses of registries by name). They are one registry that wants
    a password, under two names, and one that is open: `private` is known by nobody here, for `mistaken` a wrong
    password is kept."""
    tests = borrowed("conftest.py", "moorings_test_docker")
    registries = borrowed("integration/containers/conftest.py", "moorings_test_registries")
    tests.ensure_package("docker-registry", "docker-registry")
    settings = {
        **MACHINE,
        "engine": "docker",
        "docker": {"host": dockerd.host},
        "image_aliases": {"local/base": tests.BASE_IMAGE},
    }
    with tempfile.TemporaryDirectory() as name:
        for part in ("private", "open", "docker"):
            (Path(name) / part).mkdir()
        private = registries.start_registry(
            Path(name) / "private", registries.password_only(Path(name) / "private")
        )
        public = registries.start_registry(Path(name) / "open", {})
        mistaken = private.address.replace("127.0.0.1", "localhost")
        wrong = base64.b64encode(f"{registries.USER}:no-{registries.PASSWORD}".encode()).decode()
        (Path(name) / "docker" / "config.json").write_text(json.dumps({"auths": {mistaken: {"auth": wrong}}}))
        try:
            with workspace_with(settings, {"DOCKER_CONFIG": str(Path(name) / "docker")}) as workspace:
                yield (
                    workspace,
                    {"private": private.address, "open": public.address, "mistaken": mistaken},
                )
        finally:
            private.stop()
            public.stop()
