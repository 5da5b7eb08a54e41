"""The supervisor as one file that any Python from 3.8 on can run, for containers: a zip of its modules, named by content."""

from __future__ import annotations

import hashlib
import io
import zipfile
from importlib import resources
from pathlib import Path

from moorings.lib import atomic

MODULES = (
    "__init__",
    "contract",
    "lib/__init__",
    "lib/atomic",
    "lib/logfile",
    "lib/procs",
    "lib/redaction",
    "engines/__init__",
    "engines/cgroup",
    "engines/children",
    "engines/companion",
    "engines/ends",
    "engines/initializing",
    "engines/kernellog",
    "engines/lastword",
    "engines/launch",
    "engines/layout",
    "engines/liveness",
    "engines/logintake",
    "engines/metadata",
    "engines/output",
    "engines/outputs",
    "engines/policy",
    "engines/probe",
    "engines/supervisor",
    "engines/worker",
)
"""Everything the supervisor and the companion import: tests run the bundle alone."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MAIN = b"import sys\nfrom moorings.engines.supervisor import main\nsys.exit(main(sys.argv[1:]))\n"


COMPANION = (
    "import sys; sys.path.insert(0, {bundle!r}); "
    "from moorings.engines.companion import main; sys.exit(main([{folder!r}]))"
)
"""What runs the companion of a container with a server of its own."""
COMPANION_MODULES = (
    "moorings.engines.companion",
    "encodings.utf_8",
    "encodings.latin_1",
    "encodings.idna",
    "ipaddress",
)
"""What it needs, also of what is loaded only at times."""


def write_bundle(folder: Path) -> Path:
    """The bundle of this version below `folder` (anybody may read it). Raises OSError."""
    buffer = io.BytesIO()
    package = resources.files("moorings")
    contents = [(f"moorings/{name}.py", package.joinpath(f"{name}.py").read_bytes()) for name in MODULES]
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in [("__main__.py", _MAIN), *contents]:
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    data = buffer.getvalue()
    path = folder / f"supervisor-{hashlib.sha256(data).hexdigest()[:16]}.pyz"
    atomic.write_if_changed(path, data, mode=0o644)
    return path
