"""The control process of a workspace (`python -m moorings.daemon`): API and controller, put together and run."""
