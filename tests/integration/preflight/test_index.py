"""The real resolver beside a small package index of this test's own: what cannot be met is told all at once, in time, and
never invented."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorings.preflight.index import Index

PYTHON = "3.11"


def wheel(
    name: str, version: str, needs: tuple[str, ...] = (), python: str = ">=3.8", tag: str = "py3-none-any"
) -> tuple[str, bytes]:
    stem = name.replace("-", "_")
    out = io.BytesIO()
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: {python}\n"
    metadata += "".join(f"Requires-Dist: {need}\n" for need in needs)
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(f"{stem}-{version}.dist-info/METADATA", metadata)
        archive.writestr(f"{stem}-{version}.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
        archive.writestr(f"{stem}-{version}.dist-info/RECORD", "")
    return f"{stem}-{version}-{tag}.whl", out.getvalue()


class Shop(http.server.ThreadingHTTPServer):
    """An index that can be told to be slow."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.delay_s = 0.0
        self.asked: list[str] = []
        self.files: dict[str, bytes] = {}
        for made in (
            wheel("httptools", "0.6.0"), wheel("uvloop", "0.20.0"), wheel("base", "1.0"), wheel("base", "2.0"),
            wheel("needs-base", "1.0", ("base>=2",)), wheel("old", "1.0", tag="cp36-cp36m-any"), wheel("alone", "1.0"),
            wheel("late", "1.0", python=">=3.13"),
        ):  # fmt: skip
            self.files[made[0]] = made[1]
        self.files["from_source-1.0.tar.gz"] = b"\x1f\x8b not looked at"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/simple"


class Page(http.server.BaseHTTPRequestHandler):
    server: Shop

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        time.sleep(self.server.delay_s)
        parts = self.path.strip("/").split("/")
        if parts[0] == "files" and parts[1].endswith(".metadata"):
            with zipfile.ZipFile(
                io.BytesIO(self.server.files[parts[1].removesuffix(".metadata")])
            ) as archive:
                name = next(each for each in archive.namelist() if each.endswith("METADATA"))
                return self._send(archive.read(name), "text/plain")
        stem = parts[1].replace("-", "_")
        links = [
            f'<a href="/files/{file}#sha256={hashlib.sha256(data).hexdigest()}" '
            f'data-requires-python="{"&gt;=3.13" if stem == "late" else "&gt;=3.6"}" '
            f"{'data-core-metadata=true' if file.endswith('whl') else ''}>{file}</a>"
            for file, data in self.server.files.items()
            if file.startswith(f"{stem}-")
        ]
        if not links:
            return self.send_error(404)
        return self._send(f"<html><body>{''.join(links)}</body></html>".encode(), "text/html")

    def _send(self, data: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):  # whoever asked has given up
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def shop() -> Iterator[Shop]:
    server = Shop()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def index(url: str, folder: Path, *, limit_s: float = 20.0) -> Index:
    environ = {
        "UV_DEFAULT_INDEX": url,
        "UV_CACHE_DIR": str(folder / "uv"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PATH": "/usr/bin:/bin",
    }
    return Index(environ, folder / "home", until_s=time.monotonic() + limit_s)


def test_what_packages_bring_along_is_told_and_then_known(shop: Shop, tmp_path: Path) -> None:
    answer = index(shop.url, tmp_path).ask(["needs-base==1.0"], PYTHON)
    assert (answer.whole, answer.unmet, answer.note) == (True, (), "")
    assert {"needs-base": "1.0", "base": "2.0"}.items() <= answer.packages.items()
    asked = len(shop.asked)
    assert index(shop.url, tmp_path).ask(["needs-base==1.0"], PYTHON) == answer
    assert len(shop.asked) == asked, "the answer was kept"


def test_what_the_resolver_has_seen_is_not_asked_again(shop: Shop, tmp_path: Path) -> None:
    index(shop.url, tmp_path).ask(["needs-base==1.0", "alone"], PYTHON)
    asked = len(shop.asked)
    answer = index(shop.url, tmp_path).ask(["needs-base"], PYTHON)
    assert answer.whole and answer.packages["base"] == "2.0"
    assert len(shop.asked) == asked


def test_everything_that_cannot_be_met_is_told_at_once(shop: Shop, tmp_path: Path) -> None:
    wanted = ["alone==1.0", "base==9.9", "nowhere-to-be-had", "old==1.0", "late", "from-source==1.0"]
    answer = index(shop.url, tmp_path).ask(wanted, PYTHON)
    found = {one.package: (one.failure.code, one.compiled) for one in answer.unmet}
    assert found == {
        "base": ("PackageVersionNotFound", False),
        "nowhere-to-be-had": ("PackageNotFound", False),
        "old": ("NoWheelForPython", False),
        "late": ("NoWheelForPython", False),
        "from-source": ("NoWheelForPython", True),
    }
    assert not answer.whole
    assert answer.packages["alone"] == "1.0"


def test_packages_that_contradict_each_other(shop: Shop, tmp_path: Path) -> None:
    answer = index(shop.url, tmp_path).ask(["base==1.0", "needs-base==1.0"], PYTHON)
    (one,) = answer.unmet
    assert one.failure.code == "EnvironmentUnsatisfiable"
    assert "base==1.0" in " ".join(one.failure.evidence)
    assert "needs-base==1.0" in " ".join(one.failure.evidence)


def test_an_index_that_does_not_answer_in_time_is_a_note(shop: Shop, tmp_path: Path) -> None:
    shop.delay_s = 3.0
    answer = index(shop.url, tmp_path, limit_s=0.5).ask(["alone==1.0"], PYTHON)
    assert (answer.unmet, answer.whole) == ((), False)
    assert "had not told everything within 0.5 s" in answer.note
    assert "alone" in answer.packages, "what is asked for is known all the same"


def test_no_index_at_all_is_a_note(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        answer = index(f"http://127.0.0.1:{taken.getsockname()[1]}/simple", tmp_path).ask(
            ["alone==1.0"], PYTHON
        )
    assert (answer.unmet, answer.whole) == ((), False)
    assert "cannot be reached" in answer.note


def test_an_address_is_not_fetched(shop: Shop, tmp_path: Path) -> None:
    answer = index(shop.url, tmp_path).ask(["x @ file:///nowhere/x-1.0-py3-none-any.whl", "alone"], PYTHON)
    assert answer.unmet == () and not answer.whole
    assert answer.packages["x"] == ""


def test_a_channel_that_nothing_answers_for(tmp_path: Path) -> None:
    asking = index("http://127.0.0.1:9/simple", tmp_path)
    assert asking.channels_problem((tmp_path.as_uri(),)) is None, "a folder is there"
    assert "refused" in str(asking.channels_problem(("http://127.0.0.1:9/channel",)))
