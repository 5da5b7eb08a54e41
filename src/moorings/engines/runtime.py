"""The Python that runs the control plane, packed into one folder that runs in any container of this machine: no image
has to bring one. What is packed is what a process that does the work has open, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorings.lib import atomic

SECONDS = 60.0
_REPORT = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    __import__(name)
found = [m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)]
found += [m.__cached__ for m in list(sys.modules.values()) if getattr(m, "__cached__", None)]
with open("/proc/self/maps") as maps:
    mapped = sorted({line.split(None, 5)[5].strip() for line in maps if "/" in line})
print(json.dumps({
    "python": os.path.realpath(sys.executable),
    "minor": "%d.%d" % sys.version_info[:2],
    "library": os.path.dirname(os.path.realpath(os.__file__)),
    "modules": [os.path.realpath(path) for path in found],
    "mapped": mapped,
}))
"""


@dataclass(frozen=True)
class Runtime:
    """A packed Python."""

    folder: Path
    loader: str
    """File name of the loader of programs, in `lib`."""

    def command(self, target: str, code: str) -> list[str]:
        """What runs `code` where the folder is called `target`."""
        lib = f"{target}/lib"
        return [f"{lib}/{self.loader}", "--library-path", lib, f"{target}/bin/python", "-I", "-S", "-c", code]


def packed(root: Path, bundle: Path, modules: Sequence[str]) -> Runtime:
    """The Python for what `modules` of `bundle` need, below `root`; made unless it is there. Anybody may read it.

    Raises OSError, also where this machine's Python cannot be looked at.
    """
    report = _report(bundle, modules)
    files = dict(_files(report))
    key = _key(files)
    folder = root / f"runtime-{key}"
    loader = next((Path(name).name for name in files if Path(name).name.startswith("ld-")), "")
    if not loader:
        raise OSError(0, "no loader of programs is mapped", report["python"])
    if not folder.is_dir():
        new = root / f".runtime-{key}.{os.getpid()}"
        shutil.rmtree(new, ignore_errors=True)
        copied: dict[Path, Path] = {}
        for target, source in files.items():
            path = new / target
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            if source in copied:
                path.hardlink_to(copied[source])
                continue
            copied[source] = path
            shutil.copy2(source, path)  # with its time, by which compiled modules are known
            path.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
        (new / "lib" / f"python{report['minor']}" / "lib-dynload").mkdir(exist_ok=True)
        for made in (new, *(path for path in new.rglob("*") if path.is_dir())):
            made.chmod(0o755)
        try:
            new.replace(folder)
        except OSError:
            shutil.rmtree(new, ignore_errors=True)
            if not folder.is_dir():
                raise
        atomic.sync_folder(root)
    return Runtime(folder, loader)


def _report(bundle: Path, modules: Sequence[str]) -> dict[str, Any]:
    done = subprocess.run(
        [os.path.realpath(sys.executable), "-I", "-S", "-c", _REPORT, str(bundle), *modules],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise OSError(0, done.stderr.decode(errors="replace")[-500:], sys.executable)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _files(report: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Name in the folder -> file of this machine."""
    library, home = Path(report["library"]), f"lib/python{report['minor']}"
    yield "bin/python", Path(report["python"])
    yield f"{home}/os.py", library / "os.py"  # by which a Python knows its folder
    for name in report["modules"]:
        path = Path(name)
        if path.is_relative_to(library) and path.is_file():
            yield f"{home}/{path.relative_to(library)}", path
    for name in report["mapped"]:
        path = Path(name)
        if ".so" in path.name and not path.is_relative_to(library) and path.is_file():
            yield f"lib/{path.name}", path
            # Programs ask for libraries by names that lead to them.
            for other in path.parent.glob(f"{path.name.partition('.so')[0].partition('-')[0]}*.so*"):
                if other.is_symlink() and other.resolve() == path.resolve():
                    yield f"lib/{other.name}", path


def _key(files: Mapping[str, Path]) -> str:
    digest = hashlib.sha256()
    for target, source in sorted(files.items()):
        stat = source.stat()
        digest.update(f"{target}\0{source}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
