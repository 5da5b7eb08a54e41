"""Which Pythons an image has, asked of the image itself; the answer is kept by the image's id."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from moorings.containers.host import DockerHost
from moorings.environments.interpreters import OLDEST, Interpreter, choose
from moorings.errors.exceptions import MooringsError, error
from moorings.lib import atomic

_PLACES = (
    *(f"python3.{minor}" for minor in range(15, 7, -1)),
    *("python3", "python", "/opt/conda/bin/python", "/opt/miniconda/bin/python", "/opt/venv/bin/python"),
)
_QUERY = (
    "import json,platform,sys,os;"
    "v=sys.version_info;"
    "print(json.dumps([os.path.realpath(sys.executable),list(v[:3]),v[3],sys.implementation.name,"
    "platform.libc_ver()[1] if platform.libc_ver()[0]=='glibc' else '',platform.machine(),sys.executable]))"
)
_SCRIPT = f'for p in {" ".join(_PLACES)}; do "$p" -I -c "{_QUERY}" 2>/dev/null; done; true'


@dataclass(frozen=True)
class ImagePython:
    """A Python of an image."""

    path: str
    """As it is called inside, links followed where it is no virtual environment's."""
    version: str
    glibc: str
    """`2.36`; empty where the C library is another one."""
    machine: str


def pythons_of(host: DockerHost, image_id: str, cache: Path) -> list[ImagePython]:
    """All of them, in the order of search. Blocking; `cache`: folder of the answers."""
    kept = cache / f"{image_id.removeprefix('sha256:')[:32]}.json"
    try:
        return [ImagePython(**one) for one in json.loads(kept.read_bytes())]
    except (OSError, ValueError, TypeError):
        found = _ask(host, image_id)
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    atomic.write(kept, json.dumps([asdict(one) for one in found]).encode())
    return found


def choose_python(
    found: Sequence[ImagePython], requirement: str, image: str
) -> tuple[ImagePython, str | None]:
    """The one for version specifiers, and a note where it is not exact. Raises `ImagePythonMissing` (the user's)."""
    asked = [Interpreter(Path(one.path), one.version) for one in found]
    chosen = choose(requirement, asked)
    if chosen is not None:
        interpreter, note = chosen
        return found[asked.index(interpreter)], note
    there = ", ".join(f"{one.version} at {one.path}" for one in found) or "no Python at all"
    wanted = f"Python {requirement}" if requirement else f"Python {OLDEST} or newer"
    raise error(
        "ImagePythonMissing",
        f"{wanted} is asked for, and the image {image} has {there}",
        target="environment.image",
        evidence=[there],
    )


def _ask(host: DockerHost, image_id: str) -> list[ImagePython]:
    try:
        code, text = host.run(image_id, ["/bin/sh", "-c", _SCRIPT])
    except MooringsError as problem:
        # An image without a shell has no Python that could be asked for either.
        if problem.failure.code == "ContainerCannotStart" and "/bin/sh" in problem.failure.message:
            return []
        raise
    found: dict[str, ImagePython] = {}
    for line in text.splitlines() if code == 0 else ():
        try:
            real, version, level, implementation, glibc, machine, called = json.loads(line)
        except ValueError:
            continue
        if level == "final" and implementation == "cpython" and tuple(version) >= OLDEST.release:
            path = str(called or real)
            found.setdefault(str(real), ImagePython(path, ".".join(map(str, version)), glibc, machine))
    return list(found.values())
