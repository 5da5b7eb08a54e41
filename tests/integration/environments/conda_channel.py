"""A conda channel made on the spot, of real packages: a CPython, a shared library, and Python packages on top of them.

What it holds:

    python 3.11.x        the interpreter that runs the tests, without its site-packages
    libharbour 1.2       a C library, compiled here; no Python in it; with a script for activation
    harbour 2.0          noarch Python package that loads the library; on no package index
    packaging X          the one of the test environment, which is on the package index as well
    broken 1.0           needs a libharbour that is not there
"""

from __future__ import annotations

import bz2
import hashlib
import importlib.metadata
import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PLACEHOLDER = "/opt/placeholder_" + "p" * 120
PYTHON = ".".join(map(str, sys.version_info[:3]))
MINOR = ".".join(map(str, sys.version_info[:2]))
_LEFT_OUT = {
    *(
        "site-packages",
        "test",
        "tests",
        "idlelib",
        "tkinter",
        "turtledemo",
        "ensurepip",
        "lib2to3",
        "__pycache__",
    ),
    *("pydoc_data", "distutils", "unittest", "sqlite3"),
}
LIBRARY = "int harbour_berths(int ships) { return ships * 3; }\n"
MODULE = """
import ctypes, os, sys
_library = ctypes.CDLL(os.path.join(sys.prefix, "lib", "libharbour.so"))
__version__ = "2.0"

def berths(ships):
    return _library.harbour_berths(ships)
"""
ACTIVATE = """
echo "told to nobody"
export HARBOUR_DATA="$CONDA_PREFIX/share/harbour"
export HARBOUR_BOTH="$HARBOUR_LIGHTS
and more"
harbour_inner=1
export PATH="/elsewhere:$PATH"
"""
SCRIPT = f"#!{PLACEHOLDER}/bin/python\nimport harbour\nprint(harbour.berths(2))\n"


def make_channel(root: Path, work: Path) -> Path:
    """Write the channel below `root`; `work` is a scratch folder."""
    library = work / "libharbour.so"
    source = work / "harbour.c"
    source.write_text(LIBRARY)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    here = f"linux-{'64' if sys.maxsize > 2**32 else '32'}"
    _package(root, here, "python", PYTHON, [], dict(_python_files()))
    activation = {
        "lib/libharbour.so": library.read_bytes(),
        "etc/conda/activate.d/libharbour.sh": ACTIVATE.encode(),
        "etc/conda/activate.d/libharbour.fish": b"this is no shell script\n",
        "etc/conda/env_vars.d/libharbour.json": b'{"HARBOUR_LIGHTS": "on"}',
    }
    _package(root, here, "libharbour", "1.2", [], activation)
    _package(root, here, "libharbour", "1.1", [], {"lib/libharbour.so": library.read_bytes()})
    _package(
        root,
        "noarch",
        "harbour",
        "2.0",
        ["python >=3.8", "libharbour >=1.2,<2"],
        {
            "site-packages/harbour/__init__.py": MODULE.encode(),
            "site-packages/harbour-2.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: harbour\nVersion: 2.0\n",
            "site-packages/harbour-2.0.dist-info/RECORD": b"harbour/__init__.py,,\n",
            "site-packages/harbour-2.0.dist-info/INSTALLER": b"conda",
        },
    )
    found = importlib.metadata.distribution("packaging")
    files = {
        f"site-packages/{file}": Path(str(file.locate())).read_bytes()
        for file in found.files or ()
        if "__pycache__" not in str(file) and ".." not in str(file)
    }
    _package(root, "noarch", "packaging", found.version, ["python >=3.8"], files)
    _package(root, "noarch", "broken", "1.0", ["python >=3.8", "libharbour >=3"], {})
    for subdir in (here, "noarch"):
        _index(root / subdir, subdir)
    return root


def _python_files() -> Iterator[tuple[str, bytes]]:
    base = Path(sys.base_prefix)
    yield f"bin/python{MINOR}", (base / "bin" / f"python{MINOR}").resolve().read_bytes()
    for library in (base / "lib").glob("libpython*.so*"):
        yield f"lib/{library.name}", library.read_bytes()
    stdlib = base / "lib" / f"python{MINOR}"
    for path in sorted(stdlib.rglob("*")):
        inner = path.relative_to(stdlib)
        left_out = any(part in _LEFT_OUT or part.startswith("config-") for part in inner.parts)
        if path.is_file() and not left_out:
            yield f"lib/python{MINOR}/{inner}", path.read_bytes()


def _package(
    root: Path, subdir: str, name: str, version: str, depends: Sequence[str], files: Mapping[str, bytes]
) -> None:
    noarch_python = subdir == "noarch" and any(one.startswith("python") for one in depends)
    index: dict[str, Any] = {
        "name": name,
        "version": version,
        "build": "0",
        "build_number": 0,
        "depends": list(depends),
        "subdir": subdir,
        "timestamp": 1700000000000,
    }
    if noarch_python:
        index["noarch"] = "python"
    elif subdir == "noarch":
        index["noarch"] = "generic"
    links = {"bin/python": f"python{MINOR}", "bin/python3": f"python{MINOR}"} if name == "python" else {}
    scripts = {"bin/harbour-berths": SCRIPT.encode()} if name == "harbour" else {}
    if noarch_python:
        scripts = {f"python-scripts/{Path(inner).name}": data for inner, data in scripts.items()}
    everything = {**files, **scripts}
    paths = [_path(inner, data, placeholder=inner in scripts) for inner, data in everything.items()]
    paths += [
        {
            "_path": inner,
            "path_type": "softlink",
            "sha256": hashlib.sha256(b"").hexdigest(),
            "size_in_bytes": 0,
        }
        for inner in links
    ]
    info = {
        "info/index.json": json.dumps(index).encode(),
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}).encode(),
    }
    if noarch_python:
        link = {"noarch": {"type": "python"}, "package_metadata_version": 1}
        info["info/link.json"] = json.dumps(link).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for inner, data in {**info, **everything}.items():
            entry = tarfile.TarInfo(inner)
            entry.size = len(data)
            entry.mode = (
                0o755 if inner.startswith(("bin/", "python-scripts/")) or inner.endswith(".so") else 0o644
            )
            archive.addfile(entry, io.BytesIO(data))
        for inner, target in links.items():
            entry = tarfile.TarInfo(inner)
            entry.type = tarfile.SYMTYPE
            entry.linkname = target
            archive.addfile(entry)
    folder = root / subdir
    folder.mkdir(parents=True, exist_ok=True)
    data = bz2.compress(buffer.getvalue(), 1)
    (folder / f"{name}-{version}-0.tar.bz2").write_bytes(data)
    (folder / f"{name}-{version}-0.json").write_text(json.dumps(index))


def _path(inner: str, data: bytes, *, placeholder: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "_path": inner,
        "path_type": "hardlink",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_in_bytes": len(data),
    }
    if placeholder:
        found |= {"prefix_placeholder": PLACEHOLDER, "file_mode": "text"}
    return found


def _index(folder: Path, subdir: str) -> None:
    packages = {}
    for archive in sorted(folder.glob("*.tar.bz2")):
        data = archive.read_bytes()
        record = json.loads(archive.with_name(archive.name.removesuffix(".tar.bz2") + ".json").read_text())
        packages[archive.name] = {
            **record,
            "md5": hashlib.md5(data).hexdigest(),
            "sha256": hashlib.sha256(data).hexdigest(),
            "size": len(data),
        }
    document = {"info": {"subdir": subdir}, "packages": packages, "packages.conda": {}, "repodata_version": 1}
    (folder / "repodata.json").write_text(json.dumps(document))


if __name__ == "__main__":
    target = Path(sys.argv[1])
    shutil.rmtree(target, ignore_errors=True)
    scratch = target / "work"
    scratch.mkdir(parents=True)
    print(make_channel(target / "channel", scratch))
