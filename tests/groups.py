"""A control group of the tests' own, below which instances have the memory of their instance type and no more."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

PARENT = "MOORINGS_TESTS_CGROUP"
"""Names a group to work below, where the places that are looked at are not ours to use."""
PLACES = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory"))
"""Where version 2 is mounted, and the memory controller of version 1."""


@contextlib.contextmanager
def memory_group() -> Iterator[Path]:
    """For `instances.cgroup_parent`. Raises OSError where the kernel's memory limit cannot be used."""
    given = os.environ.get(PARENT)
    for place in [Path(given)] if given else PLACES:
        made = _made(place)
        if made is not None:
            try:
                yield made
            finally:
                left = [str(path) for path in made.glob("*/*") if path.is_dir()]
                for path in (*map(Path, left), made / "moorings", made):
                    with contextlib.suppress(OSError):
                        path.rmdir()
            assert not left, f"control groups are left over: {left}"
            return
    raise OSError(
        f"no control group with the memory controller can be made below {given or ' or '.join(map(str, PLACES))}; "
        f"run this as root, or name a group that is yours: {PARENT}=/sys/fs/cgroup/..."
    )


def below(group: Path) -> dict[str, dict[str, str]]:
    """Settings of a workspace that puts its instances into groups below this one."""
    return {"instances": {"cgroup_parent": str(group)}}


def _made(place: Path) -> Path | None:
    """A new group there that limits memory."""
    with contextlib.suppress(OSError):
        made = Path(tempfile.mkdtemp(prefix="moor-tests-", dir=place))
        with contextlib.suppress(OSError):
            if (place / "cgroup.subtree_control").exists():
                (place / "cgroup.subtree_control").write_text("+memory")
        if (made / "memory.max").exists() or (made / "memory.limit_in_bytes").exists():
            return made
        made.rmdir()
    return None
