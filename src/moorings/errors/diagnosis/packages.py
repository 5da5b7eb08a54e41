"""Which package to install for a module name, where the two differ. Tables, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

PACKAGE_OF_MODULE: Mapping[str, str] = MappingProxyType(
    {
        "Bio": "biopython",
        "Crypto": "pycryptodome",
        "Cryptodome": "pycryptodomex",
        "Levenshtein": "levenshtein",
        "MySQLdb": "mysqlclient",
        "OpenSSL": "pyopenssl",
        "PIL": "pillow",
        "attr": "attrs",
        "bs4": "beautifulsoup4",
        "community": "python-louvain",
        "cv2": "opencv-python-headless",
        "dateutil": "python-dateutil",
        "distutils": "setuptools",
        "docx": "python-docx",
        "dotenv": "python-dotenv",
        "faiss": "faiss-cpu",
        "fitz": "pymupdf",
        "git": "gitpython",
        "google.auth": "google-auth",
        "google.protobuf": "protobuf",
        "grpc": "grpcio",
        "imblearn": "imbalanced-learn",
        "jose": "python-jose",
        "jwt": "pyjwt",
        "kafka": "kafka-python",
        "magic": "python-magic",
        "mpl_toolkits": "matplotlib",
        "osgeo": "gdal",
        "pkg_resources": "setuptools",
        "psycopg2": "psycopg2-binary",
        "pptx": "python-pptx",
        "pylab": "matplotlib",
        "pythonjsonlogger": "python-json-logger",
        "ruamel.yaml": "ruamel.yaml",
        "sentence_transformers": "sentence-transformers",
        "serial": "pyserial",
        "skimage": "scikit-image",
        "sklearn": "scikit-learn",
        "sksurv": "scikit-survival",
        "slugify": "python-slugify",
        "tree": "dm-tree",
        "umap": "umap-learn",
        "yaml": "pyyaml",
        "zmq": "pyzmq",
    }
)


NAMESPACES = frozenset(
    "azure azureml google zope ruamel opentelemetry jaraco backports sphinxcontrib nvidia airflow".split()  # noqa: SIM905
)
"""First names that many packages share: what counts is the rest of the name."""
_DEEPER = ("azure.ai", "azure.storage", "google.cloud", "azureml.ai")


def package_of(module: str) -> str:
    """The name to add to the environment for `import <module>` (dotted); of a namespace, its first names."""
    parts = module.split(".")
    for depth in range(len(parts), 0, -1):
        known = PACKAGE_OF_MODULE.get(".".join(parts[:depth]))
        if known is not None:
            return known
    if parts[0] in NAMESPACES:
        return "-".join(parts[: 3 if module.startswith(_DEEPER) else 2]).replace("_", "-")
    return parts[0].replace("_", "-")
