"""The inference server as a wheel that can be installed into any environment without a network.

It is packed from the installed package, which is never imported here.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

from moorings.errors.exceptions import error
from moorings.lib import atomic

DISTRIBUTION = "moorings-server"
PACKAGE = "moorings_server"
METADATA_KEYS = ("Requires-Python", "Requires-Dist")
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip file can hold: equal content gives equal bytes."""

_Fingerprint = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class ServerWheel:
    path: Path
    version: str
    sha256: str


class ServerWheels:
    """Keeps wheels below `folder`, each in a folder named by its content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._last: tuple[_Fingerprint, ServerWheel] | None = None

    def current(self) -> ServerWheel:
        """The wheel of the server that is installed now.

        Raises `InferenceServerMissing` (the installation is at fault), OSError when it cannot be written.
        """
        files = package_files(_package_folder())
        fingerprint = tuple((name, path.stat().st_mtime_ns, path.stat().st_size) for name, path in files)
        if self._last is not None and self._last[0] == fingerprint and self._last[1].path.is_file():
            return self._last[1]
        version, data = pack(files)
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.folder / sha256[:16] / f"{PACKAGE}-{version}-py3-none-any.whl"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic.write_if_changed(path, data)
        wheel = ServerWheel(path, version, sha256)
        self._last = (fingerprint, wheel)
        return wheel


def package_files(folder: Path) -> list[tuple[str, Path]]:
    """(name in the wheel, file), sorted by name; without compiled files."""
    found = [
        (f"{PACKAGE}/{path.relative_to(folder).as_posix()}", path)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    ]
    return sorted(found)


def pack(files: list[tuple[str, Path]]) -> tuple[str, bytes]:
    """(version, bytes of the wheel). Raises `InferenceServerMissing`."""
    try:
        distribution = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        raise error("InferenceServerMissing", f"the package {DISTRIBUTION} is not installed") from None
    version = distribution.version
    info = f"{PACKAGE}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {DISTRIBUTION}", f"Version: {version}"]
    for key in METADATA_KEYS:
        lines += [f"{key}: {value}" for value in distribution.metadata.get_all(key) or ()]
    contents = [(name, path.read_bytes()) for name, path in files]
    contents.append((f"{info}/METADATA", "\n".join([*lines, "", ""]).encode()))
    tags = "Wheel-Version: 1.0\nGenerator: moorings\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    contents.append((f"{info}/WHEEL", tags.encode()))
    entry_points = distribution.read_text("entry_points.txt")
    if entry_points:
        contents.append((f"{info}/entry_points.txt", entry_points.encode()))
    record = [f"{name},sha256={_record_hash(data)},{len(data)}" for name, data in contents]
    record.append(f"{info}/RECORD,,")
    contents.append((f"{info}/RECORD", ("\n".join(record) + "\n").encode()))
    return version, _zip(contents)


def _package_folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not places:
        raise error("InferenceServerMissing", f"the package {PACKAGE} is not installed")
    return Path(places[0])


def _zip(contents: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    # Stored, not deflated: compressed bytes differ between versions of zlib.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in contents:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
