"""Where the fault suite finds its own modules (test folders are no packages)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "failures"))
sys.path.insert(0, str(Path(__file__).parent))
