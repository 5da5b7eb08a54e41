"""Which package to install for a module name, where the two differ. A table, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

PACKAGE_OF_MODULE: Mapping[str, str] = MappingProxyType(
    {
        "Bio": "biopython",
        "Crypto": "pycryptodome",
        "OpenSSL": "pyopenssl",
        "PIL": "pillow",
        "attr": "attrs",
        "bs4": "beautifulsoup4",
        "community": "python-louvain",
        "cv2": "opencv-python-headless",
        "dateutil": "python-dateutil",
        "docx": "python-docx",
        "dotenv": "python-dotenv",
        "faiss": "faiss-cpu",
        "fitz": "pymupdf",
        "git": "gitpython",
        "google": "protobuf",
        "grpc": "grpcio",
        "jose": "python-jose",
        "jwt": "pyjwt",
        "kafka": "kafka-python",
        "magic": "python-magic",
        "mpl_toolkits": "matplotlib",
        "osgeo": "gdal",
        "pkg_resources": "setuptools",
        "psycopg2": "psycopg2-binary",
        "pptx": "python-pptx",
        "sentence_transformers": "sentence-transformers",
        "serial": "pyserial",
        "skimage": "scikit-image",
        "sklearn": "scikit-learn",
        "sksurv": "scikit-survival",
        "tree": "dm-tree",
        "umap": "umap-learn",
        "yaml": "pyyaml",
        "zmq": "pyzmq",
    }
)


def package_of(module: str) -> str:
    """The name to add to the environment for `import <module>`."""
    top = module.partition(".")[0]
    return PACKAGE_OF_MODULE.get(top, top.replace("_", "-"))
