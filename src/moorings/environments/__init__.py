"""Environments of deployments: what is asked for, translated, locked, built once and kept by its content."""
