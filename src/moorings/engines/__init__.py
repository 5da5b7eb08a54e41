"""Engines run instances of deployments: as processes, containers or pods. They do not know each other."""
