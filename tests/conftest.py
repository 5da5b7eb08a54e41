"""A real Docker Engine for the tests that need one: started by them on a socket of its own, with a base image made from
this machine's own files, and ended again. Debian's packages are installed when they are missing."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import settings

settings.register_profile("moorings", deadline=None)  # a busy machine is no failure of a test
settings.load_profile("moorings")

TOOLS = (
    *("sh", "bash", "cat", "cp", "dd", "echo", "env", "false", "grep", "ls", "mkdir", "rm", "sleep", "true"),
    *("chmod", "id", "head", "tail", "wc", "sed", "uname"),
)
UNUSED_PARTS = (
    "test",
    "site-packages",
    "idlelib",
    "tkinter",
    "ensurepip",
    "lib2to3",
    "turtledemo",
    "pydoc_data",
)
UNUSED_MODULES = ("_tkinter", "_test", "_ctypes_test", "_xx", "nis", "readline", "_curses")
EXTRA_LIBRARIES = (
    "libstdc++.so.6",
    "libgcc_s.so.1",
    "librt.so.1",
    "libpthread.so.0",
    "libdl.so.2",
    "libutil.so.1",
)
BASE_IMAGE = "moorings.test/python:base"
PATIENCE_S = 60.0


def ensure_package(program: str, package: str) -> None:
    """Have `program` (a name, or a pattern of its path), from a package of Debian. One at a time: other test runs may
    want it as well."""

    def there() -> bool:
        return bool(glob.glob(program)) if program.startswith("/") else shutil.which(program) is not None

    if there():
        return
    with open("/var/lock/moorings-test-apt", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if there():
            return
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        subprocess.run(["apt-get", "update", "-q"], env=env, check=True, capture_output=True, timeout=600)
        install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", package]
        subprocess.run(install, env=env, check=True, capture_output=True, timeout=900)
    assert there(), f"{package} is installed and has no {program}"


class Dockerd:
    """An engine of the tests. Everything of it is below `folder`, but for its bridge."""

    def __init__(self, folder: Path, *options: str, data_root: Path | None = None) -> None:
        self.folder = folder
        self.socket = folder / "docker.sock"
        self.host = f"unix://{self.socket}"
        self.data_root = data_root or folder / "data"
        self.bridge = f"mt{os.getpid() % 100000}{os.urandom(2).hex()}"
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        self._subnet = f"10.{210 + os.urandom(1)[0] % 40}.{os.urandom(1)[0]}.1/24"

    def start(self, *options: str) -> None:
        """Up, or an error with the last of its log."""
        if not Path(f"/sys/class/net/{self.bridge}").exists():
            subprocess.run(["ip", "link", "add", self.bridge, "type", "bridge"], check=True)
            subprocess.run(["ip", "addr", "add", self._subnet, "dev", self.bridge], check=True)
            subprocess.run(["ip", "link", "set", self.bridge, "up"], check=True)
        argv = [
            *("dockerd", "--host", self.host, "--data-root", str(self.data_root)),
            *("--exec-root", str(self.folder / "exec"), "--pidfile", str(self.folder / "pid")),
            *("--config-file", str(self.folder / "none.json"), "--exec-opt", "native.cgroupdriver=cgroupfs"),
            *("--iptables=false", "--ip-masq=false", "--bridge", self.bridge, "--shutdown-timeout", "5"),
        ]
        (self.folder / "none.json").write_text("{}")
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*argv, *self.options, *options],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
            )
        deadline = time.monotonic() + PATIENCE_S
        while self.cli("version", check=False).returncode != 0:
            tail = (self.folder / "log").read_text(errors="replace")[-3000:]
            assert self.process.poll() is None, f"dockerd ended:\n{tail}"
            assert time.monotonic() < deadline, f"dockerd does not answer:\n{tail}"
            time.sleep(0.05)

    def stop(self) -> None:
        """The engine alone: what runs with live-restore goes on."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """Everything: containers, the engine, its network, its folders."""
        if self.process is not None and self.process.poll() is None:
            ids = self.cli("ps", "-aq", check=False).stdout.split()
            if ids:
                self.cli("rm", "-f", "-v", *ids, check=False)
            self.stop()
        self._end_leftovers()
        subprocess.run(["ip", "link", "del", self.bridge], check=False, capture_output=True)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for place in sorted((m for m in mounts if m.startswith(str(self.folder))), reverse=True):
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_leftovers(self) -> None:
        """Where the engine has not ended by itself: what it started carries our folder in its command line."""
        owned = {
            p.pid: p
            for p in psutil.process_iter(["cmdline"])
            if str(self.folder) in " ".join(p.info["cmdline"] or ())
        }
        for process in owned.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in [*process.children(recursive=True), process]:
                    if child.pid != os.getpid():
                        child.kill()

    def cli(
        self, *argv: str, check: bool = True, data: bytes | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`docker ...` against this engine."""
        done = subprocess.run(
            ["docker", "-H", self.host, *argv],
            input=data,
            stdin=None if data is not None else subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            env={**os.environ, **(env or {})},
        )
        text = subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace")
        )
        assert not check or done.returncode == 0, f"docker {argv}: {text.stdout}\n{text.stderr}"
        return text

    def load(self, tar: Path, tag: str) -> None:
        """Make a root file system an image."""
        change = ["-c", "ENV PATH=/usr/local/bin:/usr/bin:/bin", "-c", 'CMD ["/bin/sh"]']
        self.cli("import", *change, str(tar), tag)

    def names(self) -> set[str]:
        """Of all containers, running or not."""
        return set(self.cli("ps", "-a", "--format", "{{.Names}}").stdout.split())

    def build(self, tag: str, dockerfile: str, files: dict[str, bytes] | None = None) -> str:
        """Build a small image with the command line; its id."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, data in {"Dockerfile": dockerfile.encode(), **(files or {})}.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(data), 0o755
                archive.addfile(entry, io.BytesIO(data))
        self.cli("build", "-t", tag, "-", data=buffer.getvalue(), env={"DOCKER_BUILDKIT": "0"})
        return self.cli("image", "inspect", "-f", "{{.Id}}", tag).stdout.strip()


@pytest.fixture(scope="session")
def base_image_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with this machine's Python, a shell and what they need."""
    path = tmp_path_factory.mktemp("base") / "base.tar"
    with tarfile.open(path, "w") as archive:
        fill(archive)
    return path


def start_dockerd(base_image_tar: Path, *options: str, data_root: Path | None = None) -> Dockerd:
    ensure_package("dockerd", "docker.io")
    ensure_package("docker", "docker-cli")  # a package of its own in newer releases of Debian
    ensure_package("ip", "iproute2")
    # A short path: the sockets of the engine are below it.
    engine = Dockerd(Path(tempfile.mkdtemp(prefix="mdk-")), *options, data_root=data_root)
    try:
        engine.start()
        engine.load(base_image_tar, BASE_IMAGE)
    except BaseException:
        engine.close()
        raise
    return engine


@pytest.fixture(scope="session")
def dockerd(base_image_tar: Path) -> Iterator[Dockerd]:
    """One engine for all tests that leave it running."""
    engine = start_dockerd(base_image_tar)
    try:
        yield engine
    finally:
        engine.close()


@pytest.fixture
def new_dockerd(base_image_tar: Path) -> Iterator[Any]:
    """A factory, for tests that need an engine of their own."""
    made: list[Dockerd] = []

    def make(*options: str, data_root: Path | None = None) -> Dockerd:
        made.append(start_dockerd(base_image_tar, *options, data_root=data_root))
        return made[-1]

    try:
        yield make
    finally:
        for engine in made:
            engine.close()


@pytest.fixture(scope="session")
def install_package() -> Any:
    """`ensure_package`, for other servers of Debian."""
    return ensure_package


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A PostgreSQL server (`tests/postgres.py`); `postgres.new_url()` is a database of its own."""
    spec = importlib.util.spec_from_file_location("tests_postgres", Path(__file__).parent / "postgres.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.Postgres(module.binaries(ensure_package))
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group (`tests/groups.py`) below which the kernel limits memory."""
    spec = importlib.util.spec_from_file_location("tests_groups", Path(__file__).parent / "groups.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.memory_group() as made:
        yield made


def fill(archive: tarfile.TarFile) -> None:
    """Put a root file system with this Python into a tar."""
    binary = Path(sys.executable).resolve()
    ask = "import sys,sysconfig;print('%d.%d' % sys.version_info[:2], sysconfig.get_path('stdlib'))"
    answer = subprocess.run([str(binary), "-I", "-c", ask], capture_output=True, text=True, check=True)
    minor, standard_folder = answer.stdout.split()
    made: set[str] = set()

    def folder(name: str, mode: int = 0o755) -> None:
        if name and name not in made:
            folder(str(Path(name).parent).lstrip("/.") if "/" in name else "")
            made.add(name)
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            archive.addfile(entry)

    def add(source: Path, target: str) -> None:
        if target in made:
            return
        folder(str(Path(target).parent))
        made.add(target)
        entry = archive.gettarinfo(str(source.resolve()), target)
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        if entry.islnk():  # tarfile remembers inodes: here every name is a file of its own
            entry.type, entry.size = tarfile.REGTYPE, source.stat().st_size
        with source.resolve().open("rb") as handle:
            archive.addfile(entry, handle)

    def text(target: str, content: str) -> None:
        folder(str(Path(target).parent))
        entry = tarfile.TarInfo(target)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content.encode()))

    for name, mode in {"tmp": 0o1777, "proc": 0o755, "sys": 0o755, "dev": 0o755, "root": 0o700}.items():
        folder(name, mode)
    text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    text("etc/group", "root:x:0:\nnogroup:x:65534:\n")
    needed: set[str] = set()
    for tool in TOOLS:
        found = shutil.which(tool, path="/bin:/usr/bin")
        if found:
            add(Path(found), f"bin/{tool}")
            needed |= _libraries(Path(found))
    add(binary, f"usr/local/bin/python{minor}")
    for link in ("python3", "python"):
        entry = tarfile.TarInfo(f"usr/local/bin/{link}")
        entry.type, entry.linkname = tarfile.SYMTYPE, f"python{minor}"
        archive.addfile(entry)
    needed |= _libraries(binary)
    standard = Path(standard_folder)
    for path in sorted(standard.rglob("*")):
        inner = path.relative_to(standard)
        skipped = inner.parts[0] in UNUSED_PARTS or "__pycache__" in inner.parts or "config-" in str(inner)
        if skipped or path.name.startswith(UNUSED_MODULES) or not path.is_file():
            continue
        add(path, f"usr/local/lib/python{minor}/{inner}")
        if path.suffix == ".so":
            needed |= _libraries(path)
    for extra in EXTRA_LIBRARIES:
        needed |= {p for p in _cached_libraries() if p.endswith(f"/{extra}")}
    for library in sorted(needed):
        inside = library.lstrip("/")
        if not library.startswith(("/lib", "/usr/lib")):
            inside = f"usr/lib/x86_64-linux-gnu/{Path(library).name}"
        add(Path(library), inside)


def _libraries(path: Path) -> set[str]:
    said = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False).stdout
    return set(re.findall(r"(?:=> )?(/\S+) \(0x", said))


def _cached_libraries() -> list[str]:
    said: Any = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True)
    return re.findall(r"=> (/\S+)", said.stdout)
