"""The Python client of the control API: talk to a workspace, wait for operations, deploy, score. Knows no
server code."""
