"""The short benchmark beside FastAPI + uvicorn: what was won must not be lost again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_ratio_to_fastapi_is_below_its_floor() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.parity"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
