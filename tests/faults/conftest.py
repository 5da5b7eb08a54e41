"""The runs of faults also work without pytest, so they are plain scripts beside each other."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
