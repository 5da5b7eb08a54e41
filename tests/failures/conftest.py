"""A workspace for all cases of the failure corpus."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
# Cases and runner also work without pytest, so they are plain scripts beside each other.
sys.path.insert(0, str(HERE))


def workspaces() -> ModuleType:
    """The workspaces of the end-to-end tests (test folders are no packages)."""
    path = HERE.parent / "e2e" / "conftest.py"
    spec = importlib.util.spec_from_file_location("moorings_corpus_workspaces", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
