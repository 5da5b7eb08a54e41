"""Models and code: taken in once into a content-addressed store, laid out for instances.

Knows no deployment.
"""
