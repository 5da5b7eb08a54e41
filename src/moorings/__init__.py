"""Moorings: managed online endpoints on machines you own. This module holds the version and imports nothing."""

__version__ = "0.1.0"
