"""Measurements beside peers: `python -m bench` (see docs/performance.md). Nothing of the product imports this."""
