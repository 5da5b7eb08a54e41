"""Which Debian package holds a shared library, and which Python package needs none of it. Tables, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

DEBIAN_PACKAGE: Mapping[str, str] = MappingProxyType(
    {
        "libGL": "libgl1",
        "libEGL": "libegl1",
        "libSM": "libsm6",
        "libXext": "libxext6",
        "libXrender": "libxrender1",
        "libX11": "libx11-6",
        "libblas": "libblas3",
        "libfontconfig": "libfontconfig1",
        "libfreetype": "libfreetype6",
        "libgdal": "libgdal-dev",
        "libgeos_c": "libgeos-c1v5",
        "libgfortran": "libgfortran5",
        "libglib-2.0": "libglib2.0-0",
        "libgomp": "libgomp1",
        "libgthread-2.0": "libglib2.0-0",
        "libhdf5": "libhdf5-dev",
        "liblapack": "liblapack3",
        "libmagic": "libmagic1",
        "libmariadb": "libmariadb3",
        "libmysqlclient": "default-libmysqlclient-dev",
        "libodbc": "unixodbc",
        "libopenblas": "libopenblas0",
        "libpq": "libpq5",
        "libsndfile": "libsndfile1",
        "libssl": "libssl3",
        "libstdc++": "libstdc++6",
        "libtbb": "libtbb12",
        "libxml2": "libxml2",
        "libz": "zlib1g",
        "libzmq": "libzmq5",
    }
)

WITHOUT_IT: Mapping[str, str] = MappingProxyType(
    {"libGL": "opencv-python-headless", "libEGL": "opencv-python-headless", "libpq": "psycopg2-binary"}
)
"""A Python package of the same use that brings the library along or does not need it."""

_MISSING = re.compile(r"(?P<name>[A-Za-z0-9_+\-.]+\.so(?:\.[0-9.]+)?): cannot open shared object file")
_VERSION = re.compile(r"version [`'](?P<name>[A-Z0-9_.]+)' not found \(required by (?P<by>[^)]+)\)")


def missing_library(text: str) -> str | None:
    """The file name of the shared library that the loader did not find."""
    found = _MISSING.search(text)
    return found["name"] if found else None


def missing_version(text: str) -> tuple[str, str] | None:
    """(symbol version such as `GLIBC_2.34`, the file that needs it)."""
    found = _VERSION.search(text)
    return (found["name"], found["by"]) if found else None


def stem(library: str) -> str:
    return library.partition(".so")[0]
