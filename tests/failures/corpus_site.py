"""What the failure corpus borrows from other tests: workspaces, a Docker Engine (test folders are no packages)."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

TESTS = Path(__file__).parents[1]


def borrowed(file: str, name: str) -> ModuleType:
    """The module in `file` of the tests, under a name of its own."""
    spec = importlib.util.spec_from_file_location(name, TESTS / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def workspace_with(settings: Any) -> Iterator[Any]:
    """A workspace of the end-to-end tests; nothing of it is left afterwards."""
    made, base = (
        borrowed("e2e/conftest.py", "moorings_corpus_workspaces"),
        Path(tempfile.mkdtemp(prefix="moor-corpus-")),
    )
    workspace = made.make_workspace(base, settings)
    try:
        yield workspace
        made.end(workspace)
    finally:
        shutil.rmtree(base, ignore_errors=True)
