"""Inference server of Moorings: runs a scoring script's `init()` and `run()` behind HTTP.

Knows nothing of the control plane."""

__version__ = "0.1.0"
