"""Inference server of Moorings: runs a scoring script's `init()` and `run()` behind HTTP.

Knows nothing of the control plane. A script may import `batch` and `routes` from here; the rest is the server's own."""

from moorings_server.batching import batch
from moorings_server.routing import routes

__version__ = "0.1.0"
__all__ = ["batch", "routes"]
