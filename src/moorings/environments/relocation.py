"""Moving a conda environment to another place: its files hold the path of the folder that they were installed in.

That path is one of ours, long and unlike any other, so it is found by its bytes. In binary files it ends with a zero
byte, and what is shorter is filled up with zeros, as conda's own installers do. Must not know images.
"""

from __future__ import annotations

import os
import re
from pathlib import Path


def relocate(folder: Path, target: str) -> int:
    """Make `folder` one that works at `target`, which is not longer; how many files were changed.

    Byte code is left as it is: Python does not read the path in it. Raises ValueError for a target that is too long.
    """
    old, new = os.fsencode(folder), os.fsencode(target)
    if len(new) > len(old):
        raise ValueError(f"{target} is longer than {folder}")
    in_binary = re.compile(re.escape(old) + rb"([^\0]*)\0")
    changed = 0
    for path in folder.rglob("*"):
        if path.is_symlink():
            changed += _relink(path, str(folder), target)
        elif path.suffix != ".pyc" and path.is_file() and _rewrite(path, old, new, in_binary):
            changed += 1
    return changed


def _relink(path: Path, old: str, new: str) -> bool:
    leads_to = str(path.readlink())
    if leads_to != old and not leads_to.startswith(f"{old}/"):
        return False
    path.unlink()
    path.symlink_to(new + leads_to[len(old) :])
    return True


def _rewrite(path: Path, old: bytes, new: bytes, in_binary: re.Pattern[bytes]) -> bool:
    content = path.read_bytes()
    if old not in content:
        return False
    if b"\0" in content:
        changed = in_binary.sub(lambda found: _padded(found, old, new), content)
    else:
        changed = content.replace(old, new)
    copy = path.with_name(f".{path.name}.moved")  # a new file: the old one may be a link into a cache
    copy.write_bytes(changed)
    copy.chmod(path.stat().st_mode & 0o777)
    copy.replace(path)
    return True


def _padded(found: re.Match[bytes], old: bytes, new: bytes) -> bytes:
    whole = found[0].replace(old, new).rstrip(b"\0")
    return whole + b"\0" * (len(found[0]) - len(whole))
