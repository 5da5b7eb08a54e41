"""Wheels without content, which stand in for what conda brings while the requirements under `pip:` are resolved.

The resolver knows the package index alone. A package that only a channel has, in that version or at all, would be missing
to it although it is in the environment. Nothing made here is ever installed.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_WHEEL = "Wheel-Version: 1.0\nGenerator: moorings\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def mentioned(lines: Sequence[str], there: Mapping[str, str]) -> set[str]:
    """Which packages of `there` (canonical names) the words of a resolver name."""
    words: set[str] = {
        canonicalize_name(word.rstrip("._-")) for line in lines for word in _WORD.findall(line)
    }
    return words & there.keys()


def write_stand_in(folder: Path, name: str, version: str) -> None:
    """A wheel of this name and version that needs nothing: conda has solved what it needs. `version`: of PEP 440."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    base = f"{name.replace('-', '_')}-{version}"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with zipfile.ZipFile(folder / f"{base}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{base}.dist-info/METADATA", metadata)
        wheel.writestr(f"{base}.dist-info/WHEEL", _WHEEL)
        wheel.writestr(f"{base}.dist-info/RECORD", "")
