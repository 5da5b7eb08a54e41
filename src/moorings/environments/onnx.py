"""What serves a model repository of ONNX files that comes without code: a script of ours and its environment.

It must not know where the files of a model lie: it is told their paths.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from moorings.errors.exceptions import error
from moorings.spec.assets import EnvironmentSpec

ONNX_CODE = Path(__file__).parent / "onnx_code"
"""Folder with the scoring script; it runs in the environment below, beside the inference server."""
ONNX_SCRIPT = "score.py"
REQUIREMENTS = ("numpy>=1.24", "onnxruntime>=1.16")
_FILES_NAMED = 8


def onnx_environment(paths: Collection[str]) -> EnvironmentSpec:
    """The environment of a `triton_model` that came without one. `paths`: all files of the model, relative.

    Raises `TritonModelNotServable` (the user's fault) when there is no ONNX file among them.
    """
    if not any(path.endswith(".onnx") for path in paths):
        shown = sorted(paths)
        more = [f"... and {len(shown) - _FILES_NAMED} more"] if len(shown) > _FILES_NAMED else []
        raise error(
            "TritonModelNotServable",
            "the model repository has no ONNX model (a file that ends with .onnx)",
            target="model",
            evidence=[*shown[:_FILES_NAMED], *more],
        )
    return EnvironmentSpec(conda_file={"dependencies": [{"pip": list(REQUIREMENTS)}]})
