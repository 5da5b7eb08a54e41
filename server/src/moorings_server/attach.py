"""Connecting to a debugger before the script is loaded (`AZUREML_DEBUG_PORT`).

Knows only the debugger's package, which is the user's to install.
"""

from __future__ import annotations

import importlib

from moorings_server import contract
from moorings_server.report import BootFailure


def attach(port: int) -> None:
    """Connect to a debugger that listens on a local port and wait for it. Raises BootFailure: the deployment's
    fault."""
    try:
        debugger = importlib.import_module("debugpy")
    except ImportError as failure:
        raise BootFailure(
            contract.KIND_BAD_SETTINGS,
            "AZUREML_DEBUG_PORT is %d, but the package debugpy is not installed in this environment. Add debugpy to "
            "it, or remove AZUREML_DEBUG_PORT." % port,
            missing="debugpy",
        ) from failure
    try:
        debugger.connect(("127.0.0.1", port))
        debugger.wait_for_client()
    except Exception as failure:  # the debugger's own kinds of failure
        raise BootFailure(
            contract.KIND_BAD_SETTINGS,
            "AZUREML_DEBUG_PORT is %d, but no debugger listens there: %s. Start one with `python -m debugpy --listen` or "
            "in the editor, or remove AZUREML_DEBUG_PORT." % (port, failure),
        ) from failure
